/** Every method of hooks. */
import { beforeAll, describe, expect, test } from 'vitest';
import { aHook } from '../../hooks.ts';
import { expectRefusal } from '../../official.ts';
import { type Under, call } from '../library.ts';

export const hooksCalls = (under: Under): void => {
  describe('hooks', () => {
    beforeAll(() =>
      call(under.root.auth, 'createRole', 'hook-id:e2e/*', {
        description: 'hooks of this test',
        scopes: ['queue:create-task:project:none', 'queue:create-task:lowest:local/process', 'queue:scheduler-id:-'],
      }),
    );
    test('every method', async () => {
      const { hooks } = under.root;
      const name = ['e2e', 'methods/all'] as const;
      const created = await call(hooks, 'createHook', ...name, aHook());
      expect(created).toMatchObject({ hookGroupId: 'e2e', hookId: 'methods/all', schedule: [], bindings: [] });
      await expectRefusal(
        call(under.nobody.hooks, 'createHook', ...name, aHook()),
        403,
        'InsufficientScopes',
        'hooks:modify-hook:e2e/methods/all',
      );
      await expectRefusal(call(hooks, 'createHook', ...name, aHook({ task: {} })), 409, 'RequestConflict', 'methods/all');
      expect(await call(under.nobody.hooks, 'hook', ...name)).toEqual(created);
      await expectRefusal(call(under.nobody.hooks, 'hook', 'e2e', 'none'), 404, 'ResourceNotFound', 'none');
      expect((await call(under.nobody.hooks, 'listHookGroups')).groups).toContain('e2e');
      expect((await call(under.nobody.hooks, 'listHooks', 'e2e')).hooks).toContainEqual(created);
      await expectRefusal(call(under.nobody.hooks, 'listHooks', 'nobody'), 404, 'ResourceNotFound', 'nobody');
      expect(await call(under.nobody.hooks, 'getHookStatus', ...name)).toEqual({ lastFire: { result: 'no-fire' } });
      await expectRefusal(call(under.nobody.hooks, 'getHookStatus', 'e2e', 'none'), 404, 'ResourceNotFound');
      const updated = await call(hooks, 'updateHook', ...name, aHook({ schedule: ['@yearly'] }));
      expect(updated).toMatchObject({ schedule: ['@yearly'] });
      await expectRefusal(call(hooks, 'updateHook', ...name, aHook({ schedule: ['often'] })), 400, 'InputError', 'often');
      const { taskId, status } = await call(hooks, 'triggerHook', ...name, { a: 1 });
      expect(status).toEqual({ taskId });
      await expectRefusal(call(hooks, 'triggerHook', ...name, { taskId: 'x' }), 400, 'InputError', 'slugid');
      const { token } = await call(hooks, 'getTriggerToken', ...name);
      await expectRefusal(call(under.nobody.hooks, 'getTriggerToken', ...name), 403, 'InsufficientScopes', 'hooks:get-trigger-token');
      expect(await call(under.nobody.hooks, 'triggerHookWithToken', ...name, token, {})).toHaveProperty('taskId');
      expect((await call(hooks, 'resetTriggerToken', ...name)).token).not.toBe(token);
      await expectRefusal(call(under.nobody.hooks, 'resetTriggerToken', ...name), 403, 'InsufficientScopes', 'hooks:reset-trigger-token');
      await expectRefusal(
        call(under.nobody.hooks, 'triggerHookWithToken', ...name, token, {}),
        401,
        'AuthenticationFailed',
        'invalid hook token',
      );
      expect((await call(under.nobody.hooks, 'listLastFires', ...name, { limit: '1' })).lastFires).toHaveLength(1);
      await expectRefusal(call(under.nobody.hooks, 'listLastFires', 'e2e', 'none'), 404, 'ResourceNotFound');
      await expectRefusal(call(under.nobody.hooks, 'removeHook', ...name), 403, 'InsufficientScopes', 'hooks:modify-hook');
      expect(await call(hooks, 'removeHook', ...name)).toEqual({});
      await expectRefusal(call(hooks, 'hook', ...name), 404, 'ResourceNotFound');
    });
  });
};
