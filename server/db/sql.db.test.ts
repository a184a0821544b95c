import { beforeAll, describe, expect, it } from 'vitest';
import { testDatabase } from '../testing/template.ts';
import { bigintArray, boolArray, intArray, textArray, timestampArray } from './arrays.ts';
import { openLane } from './lane.ts';
import { type Db, flatten, isConnectionError, json, sql } from './sql.ts';

let db: Db;
beforeAll(async () => {
  db = (await testDatabase()).db;
  await db`create table things (thing_id text primary key, made_at timestamptz, amount bigint)`;
});

describe('the SQL tag', () => {
  it('numbers values across nested fragments', () => {
    const only = sql`and state = ${'x'}`;
    const template = (strings: TemplateStringsArray, ...values: unknown[]) => flatten(strings, values);
    expect(template`select 1 where id = ${1} ${only} limit ${2}`).toEqual({
      text: 'select 1 where id = $1 and state = $2 limit $3',
      values: [1, 'x', 2],
    });
  });

  it('gives camelCase rows, dates as Date and int8 as number', async () => {
    const at = new Date('2030-01-02T03:04:05.678Z');
    await db`insert into things values ('a', ${at}, 9007199254740991)`;
    expect(await db`select * from things where thing_id = 'a'`).toEqual([{ thingId: 'a', madeAt: at, amount: 9007199254740991 }]);
  });

  it('sends JSON and text that looks like SQL unharmed', async () => {
    const [row] = await db<{
      value: unknown;
      text: string;
    }>`select ${json({ a: [1, "'"] })}::json as value, ${"'; drop table things; --"}::text as text`;
    expect(row).toEqual({ value: { a: [1, "'"] }, text: "'; drop table things; --" });
  });
});

describe('a transaction', () => {
  it('rolls back when its function throws, and calls afterCommit only after a commit', async () => {
    const calls: string[] = [];
    await expect(
      db.tx(async tx => {
        tx.afterCommit(() => calls.push('never'));
        await tx`insert into things values ('rolled-back')`;
        throw new Error('no');
      }),
    ).rejects.toThrow('no');
    await db.tx(async tx => {
      tx.afterCommit(() => calls.push('committed'));
      await tx`insert into things values ('kept')`;
    });
    expect(calls).toEqual(['committed']);
    expect(await db`select thing_id from things where thing_id in ('rolled-back', 'kept')`).toEqual([{ thingId: 'kept' }]);
  });

  it('refuses the next statement when its backend dies, and the pool goes on', async () => {
    const attempt = db.tx(async tx => {
      const [me] = await tx<{ pid: number }>`select pg_backend_pid() as pid`;
      await tx`insert into things values ('lost')`;
      await db`select pg_terminate_backend(${me?.pid})`;
      await tx`insert into things values ('outside')`;
    });
    await expect(attempt).rejects.toSatisfy(isConnectionError);
    expect(await db`select thing_id from things where thing_id in ('lost', 'outside')`).toEqual([]);
  });

  it('does not keep its locks when it stands still, and says why it failed', async () => {
    await db`insert into things values ('still')`;
    const attempt = db.tx(
      async tx => {
        await tx`update things set amount = 1 where thing_id = 'still'`;
        await db`update things set amount = 2 where thing_id = 'still'`; // waits for the lock of the first
        await tx`update things set amount = 3 where thing_id = 'still'`;
      },
      { idleMs: 100 },
    );
    await expect(attempt).rejects.toMatchObject({ code: '25P03', message: expect.stringMatching(/idle-in-transaction timeout/) as string });
    await expect(attempt).rejects.toSatisfy(isConnectionError);
    expect(await db`select amount from things where thing_id = 'still'`).toEqual([{ amount: 2 }]);
    // the setting was the transaction's own
    const [row] = await db.tx(tx => tx<{ limit: string }>`select current_setting('idle_in_transaction_session_timeout') as limit`);
    expect(row?.limit).toBe('10s');
  });

  it('repeats after a deadlock', async () => {
    await db`insert into things values ('d1'), ('d2')`;
    let tries = 0;
    const locked = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const things = ['d1', 'd2'];
    const running: Promise<void>[] = things.map((mine, i) =>
      db.tx(async tx => {
        tries++;
        if (tries === 3) {
          await running[1 - i]; // it may come between the other one and the row for which that waits
        }
        await tx`update things set amount = ${i} where thing_id = ${mine}`;
        locked[i]?.resolve();
        await locked[1 - i]?.promise;
        await tx`update things set amount = ${i} where thing_id = ${things[1 - i]}`;
      }),
    );
    await Promise.all(running);
    expect(tries).toBe(3);
    const amounts = await db<{ amount: number }>`select distinct amount from things where thing_id in ('d1', 'd2')`;
    expect(amounts).toHaveLength(1);
  });
});

describe('binary arrays', () => {
  it('carry every type and nulls', async () => {
    const at = Date.UTC(1999, 11, 31, 23, 59, 59, 123);
    const rows = await db`
      select * from unnest(${textArray(['a', null, 'ü"\\{}'])}::text[], ${intArray([1, null, -5])}::int4[], ${bigintArray([2 ** 40, null, 0])}::int8[],
        ${timestampArray([at, null, 0])}::timestamptz[], ${boolArray([true, null, false])}::bool[]) as x(t, i, b, d, f)`;
    expect(rows).toEqual([
      { t: 'a', i: 1, b: 2 ** 40, d: new Date(at), f: true },
      { t: null, i: null, b: null, d: null, f: null },
      { t: 'ü"\\{}', i: -5, b: 0, d: new Date(0), f: false },
    ]);
    expect(await db`select cardinality(${textArray([])}::text[]) as n`).toEqual([{ n: 0 }]);
  });
});

describe('a lane', () => {
  it('runs statements as one transaction and answers with the rows of each', async () => {
    const lane = openLane(db, 'test lane');
    const insert = { text: 'insert into things (thing_id) values ($1) returning thing_id', values: ['l1'] };
    const count = { text: "select count(*) as n from things where thing_id like 'l%'", values: [] };
    expect(await lane.run([insert, count])).toEqual([[{ thingId: 'l1' }], [{ n: 1 }]]);
    await expect(lane.run([{ ...insert, values: ['l2'] }, insert])).rejects.toMatchObject({ code: '23505' });
    // the failed pipeline left nothing, and the lane goes on
    expect(await lane.run([count])).toEqual([[{ n: 1 }]]);
    await expect(lane.run([{ text: 'select nonsense', values: [] }])).rejects.toMatchObject({ code: '42703' });
    expect(await lane.run([{ ...insert, values: ['l3'] }, count])).toEqual([[{ thingId: 'l3' }], [{ n: 2 }]]);
    await lane.close();
  });

  it('opens a new connection after its backend died, and sets it up', async () => {
    const lane = openLane(db, 'test lane', "create function pg_temp.answer() returns int language sql as 'select 42'");
    const pid = { text: 'select pg_backend_pid() as pid', values: [] };
    const [[before]] = (await lane.run([pid])) as [[{ pid: number }]];
    const dying = lane.run([{ text: 'select pg_sleep(20)', values: [] }]);
    const ended = expect(dying).rejects.toSatisfy(isConnectionError);
    await db`select pg_terminate_backend(${before.pid})`;
    await ended;
    const [[after]] = (await lane.run([pid])) as [[{ pid: number }]];
    expect(after.pid).not.toBe(before.pid);
    expect(await lane.run([{ text: 'select pg_temp.answer() as answer', values: [] }])).toEqual([[{ answer: 42 }]]);
    await lane.close();
  });
});
