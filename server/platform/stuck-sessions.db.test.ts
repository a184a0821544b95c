import pg from 'pg';
import { beforeAll, expect, test } from 'vitest';
import { type TestDatabase, testDatabase } from '../testing/template.ts';
import { endStuckSessions } from './stuck-sessions.ts';

let database: TestDatabase;
beforeAll(async () => {
  database = await testDatabase();
  await database.db`create table held (id int primary key)`;
  await database.db`insert into held values (1), (2), (3)`;
});

/** What `pg` has inside, and does not declare. */
interface RawClient {
  query(text: string): Promise<{ rows: object[] }>;
  readonly connection: {
    readonly stream: { pause(): void; resume(): void; destroy(): void };
    parse(query: { text: string; name: string }): void;
    bind(config: object): void;
    execute(config: object): void;
    flush(): void;
    query(text: string): void;
  };
}

const connect = async (name: string): Promise<{ client: RawClient; ended: Promise<unknown> }> => {
  const client = new pg.Client({ ...database.connection, application_name: name });
  const ended = new Promise(resolve => client.once('end', resolve));
  client.on('error', () => undefined);
  await client.connect();
  return { client: client as unknown as RawClient, ended };
};

/** Waits until a row is locked. */
const locked = async (id: number): Promise<void> => {
  for (;;) {
    const rows = await database.db`select id from held where id = ${id} for update skip locked`;
    if (rows.length === 0) {
      return;
    }
  }
};

/** Ends stuck sessions until some were found, and answers with their names. */
const endAll = async (): Promise<string[]> => {
  for (;;) {
    const ended = await endStuckSessions(database.db, 0.2);
    if (ended.length > 0) {
      return ended.map(each => each.applicationName);
    }
  }
};

test('one that has sent half of its work, and stands still, is ended', async () => {
  const { client, ended } = await connect('taskcluster half');
  const { connection } = client;
  connection.parse({ text: 'update held set id = id where id = 1', name: '' });
  connection.bind({});
  connection.execute({});
  connection.flush(); // the transaction ends with a message that never comes
  await locked(1);
  expect(await endAll()).toEqual(['taskcluster half']);
  await ended;
  expect(await database.db`select id from held where id = 1 for update`).toEqual([{ id: 1 }]);
});

test('one that does not read its answer is ended', async () => {
  const { client, ended } = await connect('taskcluster deaf');
  client.connection.stream.pause();
  client.connection.query("update held set id = id where id = 2 returning repeat('x', 100000000)");
  await locked(2);
  expect(await endAll()).toEqual(['taskcluster deaf']);
  expect(await database.db`select id from held where id = 2 for update`).toEqual([{ id: 2 }]);
  client.connection.stream.resume();
  await ended;
});

test('those that are at work, idle, of other programs, or not stuck for long enough are left alone', async () => {
  const other = await connect('pg_dump');
  other.client.connection.parse({ text: 'update held set id = id where id = 3', name: '' });
  other.client.connection.bind({});
  other.client.connection.execute({});
  other.client.connection.flush();
  const working = await connect('taskcluster working');
  const sleeping = working.client.query('select pg_sleep(1)');
  const idle = await connect('taskcluster idle');
  await idle.client.query('begin');
  await locked(3);
  await sleeping;
  const fresh = await connect('taskcluster fresh');
  fresh.client.connection.parse({ text: 'select 1', name: '' });
  fresh.client.connection.bind({});
  fresh.client.connection.execute({});
  fresh.client.connection.flush();
  expect(await endStuckSessions(database.db, 30)).toEqual([]);
  for (let i = 0; i < 5; i++) {
    expect((await endStuckSessions(database.db, 0.2)).map(each => each.applicationName)).not.toContain('pg_dump');
  }
  expect((await idle.client.query('select 1 as one')).rows).toEqual([{ one: 1 }]);
  for (const { client } of [other, working, idle, fresh]) {
    client.connection.stream.destroy();
  }
});
