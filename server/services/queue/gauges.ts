/** Gauges of task queues, read when somebody asks for the metrics. Queues that nobody used for a day are left out, which bounds the labels. */
import type { Platform } from '../../platform/service.ts';
import { splitTaskQueueId } from './rules.ts';

interface QueueNumbers {
  readonly taskQueueId: string;
  readonly pending: number;
  readonly claimed: number;
  readonly workers: number;
  readonly quarantined: number;
}

const LABELS = ['provisionerId', 'workerType'] as const;
/** Several gauges of one scrape share a reading. */
const FRESH_MS = 1_000;

/** Declares the gauges; each scrape costs one query over counts. */
export const declareGauges = ({ db, clock, metrics }: Pick<Platform, 'db' | 'clock' | 'metrics'>): void => {
  let reading: { readonly atMs: number; readonly numbers: Promise<QueueNumbers[]> } | undefined;
  const read = (): Promise<QueueNumbers[]> => {
    const nowMs = clock.nowMs();
    if (!reading || nowMs - reading.atMs > FRESH_MS) {
      reading = { atMs: nowMs, numbers: readNumbers(db, clock.now()) };
    }
    return reading.numbers;
  };
  const gauge = (name: string, help: string, value: (numbers: QueueNumbers) => number): void => {
    metrics.gauge(name, help, LABELS, async self => {
      self.reset();
      for (const numbers of await read()) {
        self.set(splitTaskQueueId(numbers.taskQueueId), value(numbers));
      }
    });
  };
  gauge('queue_pending_tasks', 'Runs that wait for a worker', n => n.pending);
  gauge('queue_claimed_tasks', 'Runs that a worker holds', n => n.claimed);
  gauge('queue_workers_total', 'Workers seen in the last day', n => n.workers);
  gauge('queue_quarantined_workers', 'Workers that get no tasks', n => n.quarantined);
  gauge('queue_running_workers', 'Workers at work', n => n.claimed);
  gauge('queue_idle_workers', 'Workers without work', n => Math.max(0, n.workers - n.quarantined - n.claimed));
};

const readNumbers = (db: Platform['db'], now: Date): Promise<QueueNumbers[]> =>
  db<QueueNumbers>`
    select q.task_queue_id,
      (select count(*) from queue.pending p where p.task_queue_id = q.task_queue_id collate "C" and p.deadline > ${now}) as pending,
      (select count(*) from queue.claims c where c.task_queue_id = q.task_queue_id collate "C" and c.taken_until > ${now}) as claimed,
      w.workers, w.quarantined
    from queue.task_queues q cross join lateral (
      select count(*) as workers, count(*) filter (where w.quarantine_until > ${now}) as quarantined
      from queue.workers w where w.task_queue_id = q.task_queue_id collate "C" and w.expires > ${now}) w
    where q.expires > ${now}`;
