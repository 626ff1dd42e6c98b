/** What a chart shows as columns of one length, to read as a table and to take away. */
export interface Column {
	name: string;
	values: ArrayLike<string | number | null>;
}

export const rowCount = (columns: Column[]) => columns.reduce((most, { values }) => Math.max(most, values.length), 0);

/** As RFC 4180 has it. Text that a spreadsheet would run as a formula is kept from it by an apostrophe. */
export function toCsv(columns: Column[]): string {
	const lines = [columns.map(({ name }) => csvField(name))];
	for (let row = 0; row < rowCount(columns); row += 1) lines.push(columns.map(({ values }) => csvField(values[row] ?? null)));
	return lines.map((fields) => `${fields.join(',')}\r\n`).join('');
}

function csvField(value: string | number | null): string {
	if (value === null) return '';
	if (typeof value === 'number') return Number.isNaN(value) ? '' : String(value);
	const text = /^[\s\uFEFF]*[=+\-@\t\r＝＋－＠]/.test(value) ? `'${value}` : value;
	return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Columns may share a name, so rows are lists, not objects. */
export function toJson(columns: Column[]): string {
	const rows = Array.from({ length: rowCount(columns) }, (_, row) => columns.map(({ values }) => values[row] ?? null));
	return JSON.stringify({ columns: columns.map(({ name }) => name), rows }, null, '\t');
}

/** A canvas on the ground that the page shows it on. */
export async function toPng(canvas: HTMLCanvasElement, ground: string): Promise<Blob> {
	const copy = document.createElement('canvas');
	[copy.width, copy.height] = [canvas.width, canvas.height];
	const context = copy.getContext('2d');
	if (!context) throw new Error('There is no canvas to draw on');
	context.fillStyle = ground;
	context.fillRect(0, 0, copy.width, copy.height);
	context.drawImage(canvas, 0, 0);
	return new Promise((resolve, reject) => {
		copy.toBlob((blob) => (blob ? resolve(blob) : reject(new Error('The picture cannot be written'))), 'image/png');
	});
}

/** Has the browser save it under a name. */
export function save(name: string, content: Blob): void {
	const link = document.createElement('a');
	link.href = URL.createObjectURL(content);
	link.download = name;
	link.click();
	URL.revokeObjectURL(link.href);
}
