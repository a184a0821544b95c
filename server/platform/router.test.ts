import { describe, expect, it } from 'vitest';
import { type Method, defineApi } from '@tscluster/api/define.ts';
import { makeRouter } from './router.ts';

const base = { method: 'get', title: '', description: '', category: '', stability: 'stable' } as const satisfies Partial<Method>;
const router = makeRouter(
  defineApi({
    service: 'x',
    version: 'v1',
    title: '',
    description: '',
    methods: {
      list: { ...base, route: '/things/' },
      thing: { ...base, route: '/things/<id>' },
      changeThing: { ...base, method: 'put', route: '/things/<id>' },
      counts: { ...base, route: '/queues/<q>/counts', splat: ['q'] },
      queue: { ...base, route: '/queues/<q>' },
      object: { ...base, route: '/objects/<name>', splat: ['name'] },
      tasks: { ...base, route: '/tasks/<ns>', optional: ['ns'] },
    },
  }),
);
const found = (verb: string, path: string): unknown => {
  const match = router.match(verb, path);
  return match && 'route' in match ? [match.route.name, match.params] : match;
};

describe('the router', () => {
  it('decodes a segment once', () => {
    expect(found('GET', '/things/a%2Fb%2525')).toEqual(['thing', { id: 'a/b%25' }]);
    expect(found('GET', '/things/a/b')).toBeUndefined();
  });
  it('accepts one trailing slash where there is no splat', () => {
    expect(found('GET', '/things')).toEqual(['list', {}]);
    expect(found('GET', '/things/')).toEqual(['list', {}]);
    expect(found('GET', '/things/a/')).toEqual(['thing', { id: 'a' }]);
    expect(found('GET', '/things/a//')).toBeUndefined();
  });
  it('gives splats the rest, slashes and all', () => {
    expect(found('GET', '/objects/a%2Fb/c//')).toEqual(['object', { name: 'a/b/c//' }]);
    expect(found('GET', '/objects/')).toEqual(['object', { name: '' }]);
    expect(found('GET', '/objects')).toBeUndefined();
    expect(found('GET', '/queues/a/b/counts')).toEqual(['counts', { q: 'a/b' }]);
    expect(found('GET', '/queues/a%2Fb')).toEqual(['queue', { q: 'a/b' }]);
  });
  it('leaves out optional parameters', () => {
    expect(found('GET', '/tasks')).toEqual(['tasks', {}]);
    expect(found('GET', '/tasks/a')).toEqual(['tasks', { ns: 'a' }]);
  });
  it('is case-sensitive and tells the verbs a path allows', () => {
    expect(found('GET', '/Things/a')).toBeUndefined();
    expect(found('HEAD', '/things/a')).toEqual(['thing', { id: 'a' }]);
    expect(found('DELETE', '/things/a')).toEqual({ allowed: ['GET', 'PUT'] });
  });
  it('refuses malformed percent-encoding', () => {
    expect(() => router.match('GET', '/things/%zz')).toThrow(URIError);
  });
});
