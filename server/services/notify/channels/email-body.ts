/**
 * The two parts of an email. Markdown becomes HTML first and is cleaned then, because Markdown may hold HTML: what is left has no scripts, styles,
 * images or forms of the sender. Mail programs drop style sheets, so that our styles stand at each element.
 */
import type { EmailMessage } from '@tscluster/api/notify/messages.ts';

type RateLimit = { readonly remaining: number; readonly seconds: number } | undefined;

export interface EmailBody {
  readonly text: string;
  readonly html: string;
}

const FONT = "font-family: -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif";
const MONO = 'font-family: ui-monospace, Menlo, Consolas, monospace';
const STYLES: Readonly<Record<string, string>> = {
  a: 'color: #0057b8',
  blockquote: 'border-left: 4px solid #d5d9de; color: #55606b; margin: 0 0 16px; padding: 0 12px',
  code: `background: #eef0f3; ${MONO}; font-size: 90%; padding: 1px 4px`,
  h1: 'font-size: 22px; margin: 0 0 16px',
  h2: 'font-size: 19px; margin: 0 0 16px',
  h3: 'font-size: 17px; margin: 0 0 12px',
  p: 'margin: 0 0 16px',
  pre: `background: #eef0f3; ${MONO}; font-size: 90%; overflow-x: auto; padding: 12px`,
  table: 'border-collapse: collapse; margin: 0 0 16px',
  td: 'border: 1px solid #d5d9de; padding: 4px 8px',
  th: 'border: 1px solid #d5d9de; padding: 4px 8px; text-align: left',
};

const isWebLink = (href: string): boolean => /^(https?|mailto):/i.test(href);

const escapeHtml = (text: string): string =>
  text.replace(/[&<>"']/g, char => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' })[char] as string);

/** Text that Markdown takes as it is. */
export const escapeMarkdown = (text: string): string => text.replace(/[\\`*_{}[\]()#+\-.!<>|~&]/g, String.raw`\$&`);

/** Renders Markdown (GitHub's, line ends count) as clean HTML. */
export const renderMarkdown = async (markdown: string): Promise<string> => {
  const [{ default: MarkdownIt }, { default: sanitizeHtml }] = await Promise.all([import('markdown-it'), import('sanitize-html')]);
  // marked was tried: it takes minutes for 100 KB of `**a_b*c__`
  const html = new MarkdownIt({ html: true, breaks: true, linkify: true }).render(markdown);
  return sanitizeHtml(html, {
    allowedAttributes: { '*': ['style'], a: ['href', 'style'] },
    allowedSchemes: ['http', 'https', 'mailto'],
    allowProtocolRelative: false,
    transformTags: {
      // of the sender's attributes only the target of a link stays
      '*': (tagName, attributes) => {
        const attribs: Record<string, string> = {};
        if (tagName === 'a' && isWebLink(attributes['href'] ?? '')) {
          attribs['href'] = attributes['href'] as string;
        }
        if (STYLES[tagName] !== undefined) {
          attribs['style'] = STYLES[tagName];
        }
        return { tagName, attribs };
      },
    },
  });
};

const button = ({ text, href }: { text: string; href: string }): string =>
  isWebLink(href)
    ? `<p style="margin: 24px 0"><a href="${escapeHtml(href)}" style="background: #0057b8; border-radius: 4px; color: #ffffff; display: inline-block; padding: 10px 18px; text-decoration: none">${escapeHtml(text)}</a></p>`
    : `<p style="margin: 24px 0">${escapeHtml(text)}: ${escapeHtml(href)}</p>`;

/** What Gmail shows beside the subject. */
const action = ({ text, href }: { text: string; href: string }, subject: string): string => {
  const data = {
    '@context': 'http://schema.org',
    '@type': 'EmailMessage',
    potentialAction: { '@type': 'ViewAction', name: text, target: href, url: href },
    description: subject,
  };
  return `<script type="application/ld+json">${JSON.stringify(data).replaceAll('<', String.raw`\u003c`)}</script>`;
};

const footerLines = (rootUrl: string, limit: RateLimit): string[] => {
  const source = `Sent by Taskcluster at ${rootUrl}`;
  if (!limit) {
    return [source];
  }
  const { remaining, seconds } = limit;
  const count = remaining === 0 ? 'No more messages' : remaining === 1 ? 'One more message' : `Up to ${remaining} more messages`;
  return [`${count} may be sent to this address within the next ${Math.ceil(seconds / 60)} minutes.`, source];
};

/** Makes both parts of an email. */
export const makeEmailBody = async (
  { subject, content, link, template }: Pick<EmailMessage, 'subject' | 'content' | 'link' | 'template'>,
  rootUrl: string,
  limit: RateLimit,
): Promise<EmailBody> => {
  const footer = footerLines(rootUrl, limit);
  const text = [content, ...(link ? ['', `${link.text}: ${link.href}`] : []), '', '-- ', ...footer, ''].join('\n');
  const width = template === 'fullscreen' ? '100%' : '580px';
  const html = `<!doctype html>
<html>
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${escapeHtml(subject)}</title>
${link && isWebLink(link.href) ? action(link, subject) : ''}
</head>
<body style="background: #f4f5f7; color: #1c2126; ${FONT}; font-size: 15px; line-height: 1.45; margin: 0; padding: 16px">
<div style="background: #ffffff; border-radius: 6px; margin: 0 auto; max-width: ${width}; padding: 24px">
${await renderMarkdown(content)}
${link ? button(link) : ''}
</div>
<div style="color: #6b7580; font-size: 12px; margin: 12px auto 0; max-width: ${width}; text-align: center">
${footer.map(escapeHtml).join('<br>\n')}
</div>
</body>
</html>
`;
  return { text, html };
};
