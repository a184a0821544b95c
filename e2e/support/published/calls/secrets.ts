/** Every method of secrets. */
import { expect, test } from 'vitest';
import { expectRefusal } from '../../official.ts';
import { type Under, call, inHours } from '../library.ts';

export const secretsCalls = (under: Under): void => {
  test('secrets', async () => {
    const name = 'e2e/a secret/ü';
    const expires = inHours(1);
    expect(await call(under.root.secrets, 'set', name, { secret: { password: 'a password' }, expires })).toEqual({});
    await expectRefusal(call(under.nobody.secrets, 'set', name, { secret: {}, expires }), 403, 'InsufficientScopes', `secrets:set:${name}`);
    await expectRefusal(
      call(under.root.secrets, 'set', name, { secret: 'a password', expires }),
      400,
      'InputValidationError',
      'data/secret',
    );
    expect(await call(under.root.secrets, 'get', name)).toEqual({ secret: { password: 'a password' }, expires });
    await expectRefusal(call(under.nobody.secrets, 'get', name), 403, 'InsufficientScopes', `secrets:get:${name}`);
    await expectRefusal(call(under.root.secrets, 'get', 'e2e/none'), 404, 'ResourceNotFound', 'Secret not found');
    expect((await call(under.nobody.secrets, 'list')).secrets).toContain(name);
    await expectRefusal(call(under.root.secrets, 'list', { limit: 'many' }), 400, 'InvalidRequestArguments', 'limit');
    await expectRefusal(call(under.nobody.secrets, 'remove', name), 403, 'InsufficientScopes', `secrets:set:${name}`);
    expect(await call(under.root.secrets, 'remove', name)).toEqual({});
    await expectRefusal(call(under.root.secrets, 'get', name), 404, 'ResourceNotFound');
  });
};
