/**
 * The page that a one-time link opens. Its script takes the token out of the address, gives it up by POST, and shows who is signed in; without a token
 * it shows the present session. The content security policy names the script and the style by their digests.
 */
import { createHash } from 'node:crypto';
import { HttpReply } from '../../platform/service.ts';

/** Runs in the browser: sent as its own source text, so it may use nothing from outside itself. */
const inBrowser = async (): Promise<void> => {
  const state = document.querySelector('#state') as HTMLElement;
  const buttons = document.querySelector('#buttons') as HTMLElement;
  const show = (text: string, isProblem = false): void => {
    state.textContent = text;
    state.className = isProblem ? 'problem' : '';
  };
  const ask = async (path: string, options: RequestInit = {}): Promise<{ ok: boolean; body: { clientId?: string; message?: string } }> => {
    const response = await fetch(path, { credentials: 'same-origin', ...options });
    return { ok: response.ok, body: (await response.json()) as { clientId?: string; message?: string } };
  };
  const showSession = ({ clientId }: { clientId?: string }): void => {
    show(`Signed in as ${clientId}.`);
    buttons.hidden = false;
  };
  document.querySelector('#sign-out')?.addEventListener('click', () => {
    void (async () => {
      await ask('/login/logout', { method: 'POST' });
      buttons.hidden = true;
      show('Signed out.');
    })();
  });
  try {
    const token = location.hash.slice(1);
    if (token === '') {
      const { ok, body } = await ask('/login/me');
      if (ok) {
        showSession(body);
      } else {
        show('Not signed in. `taskcluster signin --link` prints a link that signs you in.');
      }
      return;
    }
    history.replaceState(null, '', location.pathname);
    const { ok, body } = await ask('/login/link', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ token }),
    });
    if (ok) {
      showSession(body);
    } else {
      show(body.message ?? 'The link does not work.', true);
    }
  } catch (error) {
    show(`The installation does not answer: ${String(error)}`, true);
  }
};

const SCRIPT = `(${inBrowser.toString()})();`;
const STYLE = `:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;margin:2.5rem auto;max-width:46rem;padding:0 1rem}
h1{margin:0 0 1rem}#buttons{display:flex;gap:1rem;align-items:center}[hidden]{display:none!important}
.problem{color:light-dark(#a40e26,#ff8182)}button{font:inherit;padding:.2rem .8rem}`;

const digest = (text: string): string => `'sha256-${createHash('sha256').update(text).digest('base64')}'`;

const HTML = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sign in · Taskcluster</title>
<style>${STYLE}</style>
</head>
<body>
<h1>Taskcluster</h1>
<p id="state" role="status">Signing in …</p>
<p id="buttons" hidden><a href="/">Go on</a> <button id="sign-out" type="button">Sign out</button></p>
<noscript><p class="problem">Signing in needs JavaScript.</p></noscript>
<script>${SCRIPT}</script>
</body>
</html>
`;

const HEADERS = {
  'content-type': 'text/html; charset=utf-8',
  'cache-control': 'no-store',
  'content-security-policy': `default-src 'none'; script-src ${digest(SCRIPT)}; style-src ${digest(STYLE)}; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'`,
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'SAMEORIGIN',
  'cross-origin-opener-policy': 'same-origin-allow-popups',
  'referrer-policy': 'no-referrer',
};

/** The page as an answer. */
export const page = (): HttpReply => new HttpReply(200, HEADERS, HTML);
