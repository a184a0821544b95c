/**
 * Matches a path to a method as the protocol does: in declaration order, segments decoded once, splats that take the rest of the path and may be
 * followed by a fixed suffix, one trailing slash optional where there is no splat.
 */
import type { Api, Method } from '@tscluster/api/define.ts';

export interface Route {
  readonly name: string;
  readonly method: Method;
}

export type Match =
  | { readonly route: Route; readonly params: Record<string, string> }
  | { readonly allowed: readonly string[] }
  | undefined;

interface Compiled extends Route {
  readonly verb: string;
  readonly pattern: RegExp;
  readonly names: readonly string[];
}

const escape = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');

const compile = (name: string, method: Method): Compiled => {
  const names: string[] = [];
  const hasSplat = (method.splat?.length ?? 0) > 0;
  let pattern = '';
  let rest = method.route;
  for (let match = /<([a-zA-Z0-9_]+)>/.exec(rest); match; match = /<([a-zA-Z0-9_]+)>/.exec(rest)) {
    const param = match[1] as string;
    const before = escape(rest.slice(0, match.index));
    names.push(param);
    if (method.optional?.includes(param)) {
      pattern += `${before.replace(/\/$/, '')}(?:/([^/]+))?`;
    } else {
      pattern += before + (method.splat?.includes(param) ? '(.*)' : '([^/]+)');
    }
    rest = rest.slice(match.index + match[0].length);
  }
  pattern += escape(hasSplat ? rest : rest.replace(/\/$/, ''));
  return { name, method, verb: method.method.toUpperCase(), names, pattern: new RegExp(`^${pattern}${hasSplat ? '' : '/?'}$`, 's') };
};

export interface Router {
  /**
   * `verb` in upper case (HEAD goes where GET goes), `path` below the API's prefix, still encoded. A known path under another verb answers with the
   * verbs it allows. Throws a URIError on malformed percent-encoding.
   */
  match(verb: string, path: string): Match;
}

export const makeRouter = (api: Api): Router => {
  const byFirstSegment = new Map<string, Compiled[]>();
  for (const [name, method] of Object.entries(api.methods)) {
    const compiled = compile(name, method);
    const first = /^\/[^/<]*/.exec(method.route)?.[0] ?? '/';
    byFirstSegment.set(first, [...(byFirstSegment.get(first) ?? []), compiled]);
  }
  const none: Compiled[] = [];

  return {
    match: (verb, path) => {
      const end = path.indexOf('/', 1);
      const candidates = byFirstSegment.get(end === -1 ? path : path.slice(0, end)) ?? none;
      const wanted = verb === 'HEAD' ? 'GET' : verb;
      const allowed: string[] = [];
      for (const route of candidates) {
        const found = route.pattern.exec(path);
        if (!found) {
          continue;
        }
        if (route.verb !== wanted) {
          if (!allowed.includes(route.verb)) {
            allowed.push(route.verb);
          }
          continue;
        }
        const params: Record<string, string> = {};
        route.names.forEach((param, i) => {
          const value = found[i + 1];
          if (value !== undefined) {
            params[param] = value.includes('%') ? decodeURIComponent(value) : value;
          }
        });
        return { route, params };
      }
      return allowed.length > 0 ? { allowed } : undefined;
    },
  };
};
