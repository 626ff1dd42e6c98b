// Runs before the first paint, so that a chosen theme never flashes the other one, and the page's files are asked for at once.
(function () {
	// An address that is no text can't be routed: nothing would be shown.
	var isText = function (part) {
		try {
			decodeURI(part);
			return true;
		} catch {
			return false;
		}
	};
	if (!isText(location.pathname)) history.replaceState(null, '', '/no-such-page');
	else if (!isText(location.hash)) history.replaceState(null, '', location.pathname + location.search);

	var choice = null;
	try {
		choice = localStorage.getItem('tracehouse.theme');
	} catch {
		// Storage may be forbidden; the system's choice then holds.
	}
	var dark = choice === 'dark' || (choice !== 'light' && matchMedia('(prefers-color-scheme: dark)').matches);
	document.documentElement.dataset.theme = dark ? 'dark' : 'light';

	// What each page loads beside what all do, by the beginning of its path; the build fills it in.
	var PAGES = {};
	var path = location.pathname;
	var page = Object.keys(PAGES).find(function (start) {
		return start === path || (start.length > 1 && start.slice(-1) === '/' && path.indexOf(start) === 0);
	});
	(PAGES[page] || []).forEach(function (file) {
		var link = document.createElement('link');
		link.rel = 'modulepreload';
		link.href = '/' + file;
		document.head.append(link);
	});
})();
