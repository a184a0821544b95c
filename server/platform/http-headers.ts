/** Headers that answers share. */

export const JSON_REPLY = 'application/json; charset=utf-8';

export const SECURITY_HEADERS = {
  'x-content-type-options': 'nosniff',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'; report-uri /__cspreport__",
};
