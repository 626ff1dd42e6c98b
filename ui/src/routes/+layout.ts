// One static page that draws everything in the browser: the server is a Rust binary and renders nothing.
export const ssr = false;
export const prerender = false;
export const trailingSlash = 'never';
