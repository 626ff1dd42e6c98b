/** What of an address is saved under a name, and where it leads later, be it in another tenant and at another time. */
import { addressOf } from './codec';
import { queryPage, searchPage } from './pages';
import { SCOPE, type Scope } from './scope';

const anyPage = addressOf('', SCOPE);
const PAGES = [searchPage, queryPage];

/** Whether a page shows the same kind of thing whenever it is opened, whoever's spans it is about. */
export const canBeSaved = (shown: URL): boolean => PAGES.some((page) => page.href() === shown.pathname);

/** Whose spans and which moment stays open, and a range is kept only if it moves with the time. */
export function toBeSaved(shown: URL): string {
	const { range } = anyPage.read(shown.searchParams);
	const kept = 'preset' in range ? range : SCOPE.range.initial;
	return anyPage.within(shown, { range: kept, zoomedFrom: [], asOf: '', tenant: '', live: false });
}

/** Null if no page of this version shows it. */
export function hrefOfSaved(address: string, scope: Scope): string | null {
	if (!address.startsWith('/') || !URL.canParse(address, HERE)) return null;
	const url = new URL(address, HERE);
	const page = PAGES.find((one) => one.href() === url.pathname);
	if (!page || url.origin !== HERE) return null;
	const hasRange = SCOPE.range.names.some((name) => url.searchParams.has(name));
	const { range } = anyPage.read(url.searchParams);
	// What the page says beside the scope is read by its own table, so that nothing else gets into the link.
	const said = page.params({ ...page.read(url.searchParams), ...scope, ...(hasRange && { range, zoomedFrom: [] }) }).toString();
	return `${url.pathname}${said ? `?${said}` : ''}`;
}

const HERE = 'http://here';
