/**
 * The relay: outbox → bus and event log. One works at a time (an advisory lock on its own connection; another takes over when it dies), because order
 * per task would be lost between several. It delivers, then commits the delete: at least once, never lost. Woken at once by commits of this process, by
 * notification of others, and by a slow poll as a safety net.
 *
 * A process that stands still (paused, swapped out) keeps its connection and would keep the lock. Postgres ends a session of the relay that is silent
 * for longer than a working one ever is, and with it the lock and what it had not committed; when the process goes on it finds the connection gone.
 */
import type pg from 'pg';
import type { Db, Tx } from '../db/sql.ts';
import { isConnectionError, queryOn } from '../db/sql.ts';
import type { Bus } from './bus/bus.ts';
import type { Clock, Timer } from './clock.ts';
import { newestSeq, parseEvents, trimEventLog } from './event-log.ts';
import type { Log } from './log.ts';
import type { Metrics } from './metrics.ts';
import type { Vacuum } from './vacuum.ts';
import { makeWaker } from './waker.ts';

const LOCK = 7_202_602;
const BATCH = 500;
/** A batch ends before the row that would make it larger than this, so that a long backlog drains in bounded memory; its first row is always in it. */
const BATCH_BYTES = 8 * 1024 * 1024;
const POLL_MS = 2_000;
/** After a batch the relay rests this long, so that under load one commit of its own serves many transactions. */
const REST_MS = 20;
const MAX_BACKOFF_MS = 10_000;
/** How often one that waits for its turn looks whether it has come. */
const STANDBY_MS = 1_000;
const SILENCE_MS = 15_000;
/** So often a relay says a word while it is busy elsewhere: its silence means that it stands still. */
const WORDS_PER_SILENCE = 4;
const CONNECTION_FAILURE = '08006';
const sessionOptions = (silenceMs: number): string =>
  `-c idle_session_timeout=${silenceMs} -c idle_in_transaction_session_timeout=${silenceMs} -c statement_timeout=30s`;
/** A relay whose bus is away for longer lets another one work, whose bus may not be. */
const AWAY_MS = 10_000;
const TRIM_MS = 10_000;
/** Rows of the event log removed at once; more than are written between two batches. */
const TRIM_BATCH = 5_000;

export interface Relay {
  /** There may be something in the outbox. */
  wake(): void;
  /** Whether it is this one's turn. */
  readonly isActive: boolean;
  /** Another one may have stopped: perhaps it is this one's turn. */
  take(): void;
  /** Resolves when the outbox was seen empty after this call. */
  drain(): Promise<void>;
  /** Finishes the batch under way. */
  stop(): Promise<void>;
}

export interface RelayOptions {
  readonly db: Db;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
  /** Told what was removed. Default: the outbox is left to autovacuum. */
  readonly vacuum?: Vacuum;
  /** How much of the event log stays. */
  readonly keep: { readonly keepSeconds: number; readonly keepRows: number };
  /** Told after each commit that appended to the event log. */
  readonly onLogged?: () => void;
  /** Told when it has stopped, so that another one need not wait to notice. */
  readonly onReleased?: () => void;
  /** No other process has a relay: nobody waits for the lock of one that stands still. */
  readonly alone?: boolean;
  /** After so long without a word from it a relay loses its turn. Default 15 000. */
  readonly silenceMs?: number;
}

export const startRelay = (options: RelayOptions): Relay => {
  const { db, bus, clock, log, metrics, keep, silenceMs = SILENCE_MS } = options;
  const delivered = metrics.counter('outbox_rows_delivered_total', 'Transactions whose events were handed to the bus', []);
  const failures = metrics.counter('outbox_relay_failures_total', 'Batches that could not be handed to the bus', []);
  const stopping = new AbortController();
  const waker = makeWaker(clock, stopping.signal);
  const rest = makeWaker(clock, stopping.signal);
  const turn = makeWaker(clock, stopping.signal);
  let isActive = false;
  let drains: (() => void)[] = [];
  /** Of the event log; known while this relay has the lock. */
  let newest = 0;
  let trimmedMs = 0;

  /**
   * Keeps the session alive while something else goes on, for as long as this process does. What goes on is given a check that throws once another
   * relay may be at work: also when this process was paused, and has not yet had the time to notice what happened meanwhile.
   */
  const withSession = async <T>(client: pg.Client, work: (requireTurn: () => void) => Promise<T>): Promise<T> => {
    let heardMs = clock.monotonicMs();
    let lost: unknown;
    let timer: Timer | undefined;
    const ask = async (): Promise<void> => {
      const askedMs = clock.monotonicMs();
      try {
        await client.query('select 1');
        heardMs = askedMs;
      } catch (error) {
        lost ??= error;
      }
    };
    const speak = (): void => {
      timer = clock.setTimer(silenceMs / WORDS_PER_SILENCE, () => {
        void ask();
        speak();
      });
    };
    speak();
    try {
      return await work(() => {
        if (lost !== undefined) {
          throw lost;
        }
        if (clock.monotonicMs() - heardMs > silenceMs / 2) {
          throw Object.assign(new Error('The relay stood still: another one may be at work'), { code: CONNECTION_FAILURE });
        }
      });
    } finally {
      timer?.cancel();
    }
  };

  /** One transaction: up to a batch of rows, in order; answers with how many. */
  const relayBatch = async (client: pg.Client): Promise<number> => {
    const query = queryOn(client);
    await client.query('begin');
    try {
      // the rows come back in the order of the deletion, which is any
      const rows = await query<{ id: number; msg: string }>`
        with head as (select id, msg from platform.outbox order by id limit ${BATCH}),
          sized as (select id, sum(octet_length(msg)) over (order by id) - octet_length(msg) as before from head),
          taken as (delete from platform.outbox where id = any(array(select id from sized where before < ${BATCH_BYTES})) returning id, msg),
          logged as (
            insert into platform.event_log (seq, outbox_id, written, msg)
            select ${newest}::bigint + row_number() over (order by id), id, ${clock.now()}, msg from taken)
        select id, msg from taken order by id`;
      if (rows.length === 0) {
        await client.query('commit');
        return 0;
      }
      const tx = Object.assign(query, { afterCommit: () => undefined }) as unknown as Tx;
      const events = await withSession(client, async requireTurn => {
        await bus.prepare(tx);
        const wanted = rows.filter(row => bus.wants(row.msg)).flatMap(row => parseEvents(row.id, row.msg));
        await bus.deliver(tx, wanted, requireTurn);
        return wanted;
      });
      await client.query('commit');
      newest += rows.length;
      options.vacuum?.removed('platform.outbox', rows.length);
      delivered.inc(rows.length);
      bus.delivered(events);
      options.onLogged?.();
      return rows.length;
    } catch (error) {
      if (!isConnectionError(error)) {
        await client.query('rollback');
      }
      throw error;
    }
  };

  /** Now and then, in bounded steps: not in the statement that events wait for. */
  const trimLog = async (client: pg.Client): Promise<void> => {
    const nowMs = clock.nowMs();
    if (nowMs - trimmedMs < TRIM_MS) {
      return;
    }
    const removed = await trimEventLog(queryOn(client), {
      before: new Date(nowMs - keep.keepSeconds * 1000),
      upTo: newest - keep.keepRows,
      newest,
      limit: TRIM_BATCH,
    });
    if (removed < TRIM_BATCH) {
      trimmedMs = nowMs;
    }
  };

  /** Whether the bus can take events now, or soon. */
  const isReady = async (): Promise<boolean> => {
    const away = new AbortController();
    const giveUp = (): void => away.abort(new Error('The bus is away'));
    const ready = bus.ready(away.signal);
    if (!ready) {
      return true;
    }
    const timer = clock.setTimer(AWAY_MS, giveUp);
    stopping.signal.addEventListener('abort', giveUp);
    try {
      await ready;
      return true;
    } catch {
      return false;
    } finally {
      timer.cancel();
      stopping.signal.removeEventListener('abort', giveUp);
    }
  };

  /** Relays until it is stopped, or until the bus is away. */
  const work = async (client: pg.Client): Promise<void> => {
    let backoffMs = 100;
    newest = await newestSeq(queryOn(client));
    while (!stopping.signal.aborted && (await isReady())) {
      const waitingForEmpty = drains;
      drains = [];
      try {
        const count = await relayBatch(client);
        backoffMs = 100;
        await trimLog(client);
        if (count === 0) {
          waitingForEmpty.forEach(resolve => resolve());
          if (drains.length === 0) {
            await waker.wait(POLL_MS);
          }
        } else {
          drains.push(...waitingForEmpty);
          if (count < BATCH && drains.length === 0) {
            await rest.wait(REST_MS);
          }
        }
      } catch (error) {
        drains.push(...waitingForEmpty);
        if (isConnectionError(error)) {
          throw error;
        }
        failures.inc();
        log.error({ err: error, backoffMs }, 'events could not be delivered');
        await clock.sleep(backoffMs, stopping.signal).catch(() => undefined);
        backoffMs = Math.min(backoffMs * 2, MAX_BACKOFF_MS);
      }
    }
  };

  /** Resolves when this relay has the lock, or (with false) is stopping. */
  const waitForTurn = async (client: pg.Client): Promise<boolean> => {
    const query = queryOn(client);
    while (!stopping.signal.aborted) {
      const [row] = await query<{ locked: boolean }>`select pg_try_advisory_lock(${LOCK}) as locked`;
      if (row?.locked) {
        return true;
      }
      await turn.wait(STANDBY_MS);
    }
    return false;
  };

  const run = async (): Promise<void> => {
    let backoffMs = 100;
    while (!stopping.signal.aborted) {
      let client: pg.Client | undefined;
      try {
        await bus.ready(stopping.signal);
        client = await db.connect({
          applicationName: 'taskcluster relay',
          ...(options.alone ? {} : { options: sessionOptions(silenceMs) }),
        });
        if (await waitForTurn(client)) {
          isActive = true;
          backoffMs = 100;
          await work(client);
        }
      } catch (error) {
        if (!stopping.signal.aborted) {
          log.warn({ err: error, backoffMs }, 'relay lost its connection');
          await clock.sleep(backoffMs, stopping.signal).catch(() => undefined);
          backoffMs = Math.min(backoffMs * 2, MAX_BACKOFF_MS);
        }
      } finally {
        await client?.end().catch(() => undefined);
        if (isActive) {
          isActive = false;
          options.onReleased?.();
        }
      }
    }
    drains.forEach(resolve => resolve());
  };

  const finished = run();

  return {
    wake: waker.wake,
    get isActive() {
      return isActive;
    },
    take: turn.wake,
    drain: () =>
      new Promise<void>(resolve => {
        drains.push(resolve);
        turn.wake();
        rest.wake();
        waker.wake();
      }),
    stop: async () => {
      stopping.abort(new Error('The relay is stopping'));
      waker.wake();
      await finished;
    },
  };
};
