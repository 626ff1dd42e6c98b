// Runs before the first paint, so that a chosen theme never flashes the other one.
(function () {
	var choice = null;
	try {
		choice = localStorage.getItem('tracehouse.theme');
	} catch {
		// Storage may be forbidden; the system's choice then holds.
	}
	var dark = choice === 'dark' || (choice !== 'light' && matchMedia('(prefers-color-scheme: dark)').matches);
	document.documentElement.dataset.theme = dark ? 'dark' : 'light';
})();
