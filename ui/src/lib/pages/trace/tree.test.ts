import { describe, expect, it } from 'vitest';
import { buildModel, errorsBelow } from './model';
import {
	collapseToDepth,
	reveal,
	rowLayout,
	rowOf,
	rowWindow,
	ROWS_DRAWN_MAX,
	scrollAfterResize,
	scrollToShow,
	visibleRows
} from './rows';
import { largeTrace, sampleTrace } from './sampleTrace';
import { buildTree, childrenOf, descendantCount, isPlaceholder, selfTime } from './tree';

const family = ['a -1 0 100', 'b 0 10 30', 'c 1 15 10 error', 'd 0 30 40', 'e 0 90 30'];

describe('the tree', () => {
	it('keeps order, depth and subtrees', () => {
		const tree = buildTree(sampleTrace(family));
		expect([...tree.order]).toEqual([0, 1, 2, 3, 4]);
		expect([...tree.depth]).toEqual([0, 1, 2, 1, 1]);
		expect([...tree.subtreeEnd]).toEqual([5, 3, 3, 4, 5]);
		expect([...tree.siblingPosition]).toEqual([1, 1, 1, 2, 3]);
		expect(childrenOf(tree, 0)).toEqual([1, 3, 4]);
		expect(descendantCount(tree, 0)).toBe(4);
		expect(tree.depthMax).toBe(2);
	});

	it('hangs orphans under one placeholder for each missing parent', () => {
		const tree = buildTree(sampleTrace(['a -1 0 100', 'b -2:m1 20 10', 'c -2:m2 5 5', 'd -2:m1 40 30', 'e 3 41 5']));
		expect(tree.nodeCount).toBe(7);
		expect(tree.missingIds).toEqual(['m1', 'm2']);
		expect([...tree.order]).toEqual([0, 6, 2, 5, 1, 3, 4]);
		expect(isPlaceholder(tree, 5)).toBe(true);
		expect([tree.start[5], tree.duration[5]]).toEqual([20, 50]);
		expect(tree.rootCount).toBe(3);
	});

	it('loses no span to a cycle or a wild parent', () => {
		const tree = buildTree(sampleTrace(['a 1 0 1', 'b 0 0 1', 'c 2 0 1', 'd 99 0 1', 'e -1 0 1']));
		expect([...tree.order].sort()).toEqual([0, 1, 2, 3, 4]);
		expect([...tree.position].every((position) => position >= 0)).toBe(true);
		expect([...visibleRows(tree, new Uint8Array(5))].length).toBe(5);
	});

	it('is empty for an empty trace', () => {
		const tree = buildTree(sampleTrace([]));
		expect(visibleRows(tree, new Uint8Array(0)).length).toBe(0);
	});

	it('takes the union of overlapping children from the self time', () => {
		const tree = buildTree(sampleTrace(family));
		expect(selfTime(tree, 0)).toBe(100 - 60 - 10);
		expect(selfTime(tree, 2)).toBe(10);
	});

	it('counts errors below a node', () => {
		const model = buildModel(sampleTrace(family));
		expect([0, 1, 2, 3].map((node) => errorsBelow(model, node))).toEqual([1, 1, 0, 0]);
	});

	it('builds 100,000 spans and their rows well within a second', () => {
		const trace = largeTrace(100_000);
		const begun = performance.now();
		const model = buildModel(trace);
		const rows = visibleRows(model.tree, new Uint8Array(model.tree.nodeCount));
		expect(rows.length).toBe(100_000);
		expect(performance.now() - begun).toBeLessThan(1000);
	});
});

describe('rows', () => {
	const tree = buildTree(sampleTrace(family));

	it('hides what is below a collapsed node', () => {
		expect([...visibleRows(tree, Uint8Array.of(0, 1, 0, 0, 0))]).toEqual([0, 1, 3, 4]);
		expect([...visibleRows(tree, collapseToDepth(tree, 0))]).toEqual([0]);
		expect([...visibleRows(tree, collapseToDepth(tree, 1))]).toEqual([0, 1, 3, 4]);
		expect([...visibleRows(tree, collapseToDepth(tree, Infinity))]).toEqual([0, 1, 2, 3, 4]);
	});

	it('opens the way to a node', () => {
		const collapsed = collapseToDepth(tree, 0);
		expect(reveal(tree, collapsed, 2)).toBe(true);
		expect([...visibleRows(tree, collapsed)]).toEqual([0, 1, 2, 3, 4]);
		expect(reveal(tree, collapsed, 2)).toBe(false);
	});

	it('finds a node’s row, or its nearest visible ancestor’s', () => {
		const rows = visibleRows(tree, Uint8Array.of(0, 1, 0, 0, 0));
		expect([0, 1, 2, 3, 4].map((node) => rowOf(tree, rows, node))).toEqual([0, 1, 1, 2, 3]);
	});

	it.each([
		[0, 260, 1000, 0, 21],
		[2600, 260, 1000, 90, 121],
		[25_900, 260, 1000, 986, 1000],
		[0, 260, 4, 0, 4],
		[0, 260, 0, 0, 0]
	])('at %d of height %d with %d rows draws %d to %d', (top, height, count, first, end) =>
		expect(rowWindow(top, height, 26, count, 10)).toEqual({ first, end })
	);

	it('never draws more rows than its limit', () => {
		for (const height of [100, 900, 2000, 9000]) {
			const { first, end } = rowWindow(50_000, height, 26, 100_000, 10);
			expect(end - first).toBeLessThanOrEqual(ROWS_DRAWN_MAX);
		}
	});

	it('scrolls as little as it must', () => {
		expect(scrollToShow(5, 0, 260, 26)).toBe(0);
		expect(scrollToShow(10, 0, 260, 26)).toBe(26);
		expect(scrollToShow(2, 100, 260, 26)).toBe(52);
		expect(scrollToShow(100, 0, 260, 26, true)).toBe(2483);
	});

	it.each([
		[0, 0, 4, { stacked: false, indent: 0 }],
		[1440, 576, 4, { stacked: false, indent: 16 }],
		[560, 224, 4, { stacked: false, indent: 16 }],
		[390, 156, 3, { stacked: true, indent: 12 }],
		[390, 156, 0, { stacked: true, indent: 12 }]
	])('of a waterfall %d wide have their bars beneath the names when it is narrow', (width, nameWidth, depthMax, layout) =>
		expect(rowLayout(width, nameWidth, depthMax)).toMatchObject(layout)
	);

	it('leave room for the names however deep the tree is', () => {
		for (const depthMax of [10, 100, 10_000]) {
			expect(rowLayout(390, 156, depthMax).indent * depthMax).toBeLessThanOrEqual(390 * 0.12 + 1e-9);
			expect(rowLayout(1440, 576, depthMax).indent * depthMax).toBeLessThanOrEqual(576 * 0.45 + 1e-9);
		}
	});

	const frame = { top: 300, height: 500, rowHeight: 50 };
	it.each([
		['nothing changed', 4, 120, frame, 120],
		['details came below the row', 4, 0, { ...frame, height: 260 }, 0],
		['details came over the row', 8, 0, { ...frame, height: 260 }, 190],
		['details came over a row out of sight', 40, 0, { ...frame, height: 260 }, 0],
		['what was above went', 8, 300, { top: 100, height: 700, rowHeight: 50 }, 100],
		['what was above went, at the top', 2, 0, { top: 100, height: 700, rowHeight: 50 }, 0],
		['rows became lower', 20, 900, { ...frame, rowHeight: 25 }, 450],
		['rows became higher', 20, 900, { ...frame, rowHeight: 100 }, 1800]
	])('stay where they are when %s', (_, cursor, scrollTop, after, expected) =>
		expect(scrollAfterResize(cursor, scrollTop, frame, after)).toBe(expected)
	);
});
