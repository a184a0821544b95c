/**
 * Claims due times: in one transaction it notes that they are to be fired and moves each hook to its next time, so that a time is claimed once, whoever
 * looks and whatever crashes.
 */
import { loop } from '../../platform/loop.ts';
import { type Ctx, newTaskId } from './ctx.ts';
import { insertScheduledFires, setNextFires, takeDueHooks } from './fires.db.ts';

export const schedule = loop<Ctx>({
  name: 'hooks/schedule',
  everyMs: 1_000,
  batch: 500,
  run: async (ctx, limit) => {
    const { db, clock, log } = ctx.platform;
    const now = clock.now();
    const claimed = await db.tx(async tx => {
      const due = await takeDueHooks(tx, now, limit);
      if (due.length === 0) {
        return 0;
      }
      const schedules = await ctx.schedules();
      const next = due.map(({ hookGroupId, hookId, schedule: patterns }) => {
        try {
          return { hookGroupId, hookId, nextFire: schedules.next(JSON.parse(patterns) as string[], now) ?? null };
        } catch (error) {
          log.error({ err: error, hookGroupId, hookId }, 'schedule of a hook cannot be read; it is not fired again until it is changed');
          return { hookGroupId, hookId, nextFire: null };
        }
      });
      await setNextFires(tx, next);
      await insertScheduledFires(
        tx,
        due.map(hook => ({ ...hook, taskId: newTaskId(ctx, hook), moment: hook.nextFire })),
      );
      return due.length;
    });
    if (claimed > 0) {
      ctx.wakeFires();
    }
    return claimed;
  },
});
