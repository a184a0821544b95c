/** What browsers would show as a page. */
const HTML = /^\s*(text\/html|application\/xhtml\+xml)\s*(;|$)/i;

export const isHtml = (contentType: string): boolean => HTML.test(contentType);
