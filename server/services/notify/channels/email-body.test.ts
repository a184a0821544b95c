/** What becomes of hostile Markdown: nothing that runs, loads or asks; and no time is lost on it. */
import { describe, expect, test } from 'vitest';
import { escapeMarkdown, makeEmailBody, renderMarkdown } from './email-body.ts';

const body = (more: object = {}) =>
  makeEmailBody({ subject: 's', content: 'c', template: 'simple', ...more } as never, 'https://tc.example.com', {
    remaining: 3,
    seconds: 600,
  });

describe('Markdown', () => {
  test('is GitHub’s, and line ends count', async () => {
    const html = await renderMarkdown(
      'a\nb\n\n| x | y |\n|---|---|\n| 1 | 2 |\n\n~~old~~ https://example.com\n\n```js\n1 < 2\n```\n\n* [link](https://example.com/?a=1&b=2 "title")',
    );
    expect(html).toContain('a<br />\nb');
    expect(html).toMatch(/<td style="[^"]+">1<\/td>/);
    expect(html).toMatch(/<a href="https:\/\/example.com" style="[^"]+">https:\/\/example.com<\/a>/);
    expect(html).toContain('1 &lt; 2');
    expect(html).toMatch(/<a href="https:\/\/example.com\/\?a=1&amp;b=2" style="[^"]+">link<\/a>/);
  });

  test.each([
    '<script>alert(1)</script>',
    '<img src=x onerror=alert(1)>',
    '![x](https://tracker.example.com/pixel.png)',
    '<svg onload=alert(1)>',
    '<iframe src="https://evil.example.com"></iframe>',
    '<form action="https://evil.example.com"><input name=password></form>',
    '<style>* { display: none }</style>',
    '<p style="position: fixed; background: url(https://evil.example.com)">x</p>',
    '<a href="javascript:alert(1)">x</a>',
    '[x](javascript:alert(1))',
    '[x](JaVaScRiPt:alert(1))',
    '[x](java\u0000script:alert(1))',
    '[x](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)',
    '[x](vbscript:msgbox)',
    '[x](//evil.example.com "onmouseover=alert(1)")',
    '<a href="https://example.com" onclick="alert(1)" style="x" target=_top>x</a>',
    '<math><mi xlink:href="javascript:alert(1)">',
    '<meta http-equiv="refresh" content="0; url=https://evil.example.com">',
    '<base href="https://evil.example.com/">',
    '<link rel=stylesheet href="https://evil.example.com/x.css">',
    '</div></body></html><script>alert(1)</script>',
    '<!--><script>alert(1)</script>-->',
    '<noscript><p title="</noscript><img src=x onerror=alert(1)>">',
    '<object data="x"></object><embed src="x">',
    '`<script>`<script>alert(1)</script>',
  ])('has nothing dangerous left: %s', async markdown => {
    const html = await renderMarkdown(markdown);
    expect(html).not.toMatch(/<(script|img|svg|iframe|form|input|style|math|meta|base|link|object|embed|noscript)/i);
    expect(html).not.toMatch(/<[^>]*\s(on\w+|target|src|action)\s*=/i);
    expect(html).not.toMatch(/href=(?!"(https?|mailto):)/i);
    expect(html).not.toMatch(/style="[^"]*(position|url)/i);
  });

  test.each([
    ['brackets', '['.repeat(50_000)],
    ['closed brackets', '[a]'.repeat(30_000)],
    ['stars', '*a '.repeat(34_000)],
    ['mixed emphasis', '**a_b*c__'.repeat(11_000)],
    ['quotes', '> '.repeat(50_000)],
    [
      'nested lists',
      Array.from({ length: 400 }, (_, i) => `${' '.repeat(i)}* x`)
        .join('\n')
        .slice(0, 100_000),
    ],
    ['backticks', '`a``b```'.repeat(12_000)],
    ['open tags', '<a '.repeat(34_000)],
    ['open elements', '<b>'.repeat(34_000)],
    ['links', '[a](<b'.repeat(17_000)],
    ['autolinks', 'https://a.b'.repeat(9_000)],
    ['addresses', 'a@b.'.repeat(25_000)],
    ['table', `${'|a'.repeat(500)}\n${'|-'.repeat(500)}\n${`${'|a'.repeat(500)}\n`.repeat(90)}`],
    ['entities', '&#'.repeat(50_000)],
    ['tildes', '~~a~'.repeat(25_000)],
    ['underscores', '_'.repeat(100_000)],
    ['spaces', `a${' '.repeat(100_000)}b`],
    ['references', '[a]: <b\n'.repeat(12_000)],
  ])('of 100 KB of %s is rendered', async (_what, markdown) => {
    expect(await renderMarkdown(markdown)).toBeTypeOf('string');
  });
});

describe('a body', () => {
  test('escapes the subject and the link', async () => {
    const { html } = await body({
      subject: '</title><script>alert(1)</script>',
      link: { text: '<b>"x"</b>', href: 'https://example.com/"><script>alert(2)</script>' },
    });
    expect(html).not.toContain('<script>alert');
    expect(html).toContain('&lt;/title&gt;&lt;script&gt;');
    expect(html).toContain('&lt;b&gt;&quot;x&quot;&lt;/b&gt;</a>');
    const json = /<script type="application\/ld\+json">(.*?)<\/script>/.exec(html)?.[1] ?? '';
    expect(JSON.parse(json)).toMatchObject({
      '@type': 'EmailMessage',
      description: '</title><script>alert(1)</script>',
      potentialAction: { '@type': 'ViewAction', url: 'https://example.com/"><script>alert(2)</script>' },
    });
  });

  test('has no button that leads anywhere but to a web page', async () => {
    const { html, text } = await body({ link: { text: 'x', href: 'javascript:alert(1)' } });
    expect(html).not.toContain('href="javascript');
    expect(html).not.toContain('ld+json');
    expect(text).toContain('x: javascript:alert(1)');
  });

  test('is a column, or as wide as the window', async () => {
    expect((await body()).html).toContain('max-width: 580px');
    expect((await body({ template: 'fullscreen' })).html).toContain('max-width: 100%');
  });
});

test('escaped text is text', async () => {
  const text = String.raw`*a* _b_ [c](d) <e> # ~f~ \g ${'`h`'} | 1. & - ! {i} + >`;
  expect((await renderMarkdown(`x ${escapeMarkdown(text)}`)).replace(/<\/?p[^>]*>/g, '').trim()).toBe(
    `x ${text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')}`,
  );
});
