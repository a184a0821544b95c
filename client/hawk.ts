/**
 * Hawk signatures (protocol: "Hawk as used"): the texts that are signed, which client and server must build alike, and the client's side of it.
 * Safe in a browser, also where the installation is reached over plain HTTP and a browser offers no Web Crypto API.
 */
import type { Credentials } from './client.ts';
import { base64, base64url, hmacSha256, sha256Of, utf8 } from './digest.ts';

/** What a signature covers, besides its key. */
export interface SignedRequest {
  /** `header`, or `bewit` for signed URLs. */
  readonly kind: 'header' | 'bewit';
  /** Unix seconds as text: the time of signing, or for a bewit the time it expires. */
  readonly ts: string;
  /** Empty for a bewit. */
  readonly nonce: string;
  /** `GET` for a bewit, also when the request is a HEAD. */
  readonly method: string;
  /** Path and query exactly as on the request line, without the bewit. */
  readonly resource: string;
  readonly host: string;
  readonly port: number | string;
  readonly hash?: string | undefined;
  readonly ext?: string | undefined;
  readonly app?: string | undefined;
  readonly dlg?: string | undefined;
}

/** The normalised text that is signed. */
export const signedText = (request: SignedRequest): string => {
  const { ext = '' } = request;
  const escaped = ext.includes('\\') || ext.includes('\n') ? ext.replaceAll('\\', '\\\\').replaceAll('\n', '\\n') : ext;
  const text = `hawk.1.${request.kind}\n${request.ts}\n${request.nonce}\n${request.method.toUpperCase()}\n${request.resource}\n${request.host.toLowerCase()}\n${request.port}\n${request.hash ?? ''}\n${escaped}\n`;
  return request.app ? `${text}${request.app}\n${request.dlg ?? ''}\n` : text;
};

/** A content type as it enters a payload hash: lower case, without parameters. */
export const hashedContentType = (contentType: string | null | undefined): string =>
  (contentType ?? '').split(';', 1)[0]?.trim().toLowerCase() ?? '';

/** The text of which a payload hash is the SHA-256. */
export const payloadText = (payload: string, contentType: string | null | undefined): string =>
  `hawk.1.payload\n${hashedContentType(contentType)}\n${payload}\n`;

/** The payload hash of a body: padded base64 of a SHA-256. */
export const payloadHash = async (payload: string, contentType: string | null | undefined): Promise<string> =>
  base64(sha256Of(payloadText(payload, contentType)));

/**
 * The `ext` attribute that carries a certificate and a restriction to some scopes; undefined when there is neither.
 * Throws a `SyntaxError` when the certificate is not JSON.
 */
export const makeExt = (certificate: string | undefined, authorizedScopes: readonly string[] | undefined): string | undefined => {
  if (!certificate && !authorizedScopes) {
    return undefined;
  }
  const ext = {
    ...(certificate && { certificate: JSON.parse(certificate) as unknown }),
    ...(authorizedScopes && { authorizedScopes }),
  };
  return base64(utf8(JSON.stringify(ext)));
};

interface Target {
  readonly resource: string;
  readonly host: string;
  readonly port: string;
}

// `href` keeps a trailing `?`, which `pathname + search` loses and the server sees
const targetOf = (url: URL): Target => ({
  resource: url.href.slice(url.origin.length).split('#', 1)[0] ?? '/',
  host: url.hostname,
  port: url.port || (url.protocol === 'https:' ? '443' : '80'),
});

export interface SignOptions {
  readonly credentials: Credentials;
  readonly authorizedScopes?: readonly string[] | undefined;
  readonly nowMs: number;
}

/** The `Authorization` header of one request. `nonce` is any short text that differs between requests; `hash` a payload hash, which is optional. */
export const signRequest = async (
  options: SignOptions & { readonly method: string; readonly url: URL; readonly nonce: string; readonly hash?: string | undefined },
): Promise<string> => {
  const { credentials, nonce, hash } = options;
  const ts = String(Math.floor(options.nowMs / 1000));
  const ext = makeExt(credentials.certificate, options.authorizedScopes);
  const text = signedText({ kind: 'header', ts, nonce, method: options.method, ...targetOf(options.url), hash, ext });
  const mac = base64(hmacSha256(credentials.accessToken, text));
  const optional = `${hash ? `hash="${hash}", ` : ''}${ext ? `ext="${ext}", ` : ''}`;
  return `Hawk id="${credentials.clientId}", ts="${ts}", nonce="${nonce}", ${optional}mac="${mac}"`;
};

/** The URL with a bewit, with which anybody may GET it until it expires. */
export const signUrl = async (options: SignOptions & { readonly url: URL; readonly expirySeconds: number }): Promise<string> => {
  const { credentials, url } = options;
  const exp = String(Math.floor(options.nowMs / 1000) + options.expirySeconds);
  const ext = makeExt(credentials.certificate, options.authorizedScopes) ?? '';
  const text = signedText({ kind: 'bewit', ts: exp, nonce: '', method: 'GET', ...targetOf(url), ext });
  const mac = base64(hmacSha256(credentials.accessToken, text));
  const bewit = base64url(utf8(`${credentials.clientId}\\${exp}\\${mac}\\${ext}`));
  const href = url.href.split('#', 1)[0] ?? url.href;
  return `${href}${href.includes('?') ? '&' : '?'}bewit=${bewit}`;
};
