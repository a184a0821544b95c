/**
 * Keeps a claim alive: renews it some minutes before it ends, gives each renewal's credentials to whoever uses the old ones, and tells when the claim is
 * lost, after which nothing may be uploaded or reported (protocol: worker, "Claims").
 */
import { ApiCallError, type Credentials } from '@tscluster/client/client.ts';
import type { Clock, Random, Timer } from '@tscluster/client/clock.ts';
import { messageOf } from './errors.ts';
import type { Monitor } from './monitor.ts';
import type { ClaimedTask, QueueCalls } from './queue.ts';

const RENEW_BEFORE_END_MS = 180_000;
const MAX_RETRY_DELAY_MS = 10_000;

/** Why a task has to stop before its end. */
export class ClaimLost extends Error {
  constructor(reason: string) {
    super(reason);
    this.name = 'ClaimLost';
  }
}

export interface ClaimKeeperOptions {
  readonly claim: ClaimedTask;
  readonly clock: Clock;
  readonly random: Random;
  readonly monitor: Monitor;
  /** A client that signs with the credentials the function gives at the time of each call. */
  readonly queueWith: (credentials: () => Credentials) => QueueCalls;
  /** Called once, with the reason. */
  readonly onLost: (reason: ClaimLost) => void;
  /** Called with each renewal. */
  readonly onRenewed: (credentials: Credentials, takenUntil: Date) => void;
}

export class ClaimKeeper {
  readonly queue: QueueCalls;
  readonly #options: ClaimKeeperOptions;
  readonly #deadlineTimer: Timer;
  #credentials: Credentials;
  #takenUntil: Date;
  #timer: Timer | undefined;
  #stop = new AbortController();

  constructor(options: ClaimKeeperOptions) {
    const { claim, clock, queueWith } = options;
    this.#options = options;
    this.#credentials = claim.credentials;
    this.#takenUntil = new Date(claim.takenUntil);
    this.queue = queueWith(() => this.#credentials);
    this.#schedule();
    // the queue resolves the run at its deadline, and the next renewal would tell so only minutes later
    this.#deadlineTimer = clock.setTimer(new Date(claim.task.deadline).getTime() - clock.nowMs(), () =>
      this.#lose('the deadline has passed'),
    );
  }

  get credentials(): Credentials {
    return this.#credentials;
  }

  /** When the claim ends unless it is renewed. */
  get takenUntil(): Date {
    return this.#takenUntil;
  }

  /** No further renewals. */
  stop(): void {
    this.#timer?.cancel();
    this.#deadlineTimer.cancel();
    this.#stop.abort();
  }

  /** Renews three minutes before the end, or after two thirds of a claim shorter than nine. */
  #schedule(): void {
    const { clock } = this.#options;
    const leftMs = this.#takenUntil.getTime() - clock.nowMs();
    this.#timer = clock.setTimer(Math.max(0, leftMs - Math.min(RENEW_BEFORE_END_MS, leftMs / 3)), () => void this.#renew());
  }

  async #renew(): Promise<void> {
    const { claim, clock, random, monitor, onRenewed } = this.#options;
    const { taskId } = claim.status;
    const params = { taskId, runId: String(claim.runId) };
    for (let attempt = 0; !this.#stop.signal.aborted; attempt++) {
      try {
        const renewed = await this.queue.reclaimTask(params);
        if (this.#stop.signal.aborted) {
          return;
        }
        this.#credentials = renewed.credentials;
        this.#takenUntil = new Date(renewed.takenUntil);
        onRenewed(renewed.credentials, this.#takenUntil);
        this.#schedule();
        return;
      } catch (error) {
        if (this.#stop.signal.aborted) {
          return;
        }
        if (error instanceof ApiCallError && (error.statusCode === 409 || error.statusCode === 404)) {
          this.#lose('it was cancelled, or its claim was taken away');
          return;
        }
        monitor.warn({ taskId, runId: claim.runId, error: messageOf(error) }, 'claim not renewed yet');
        const delayMs = Math.min(MAX_RETRY_DELAY_MS, 500 * 2 ** attempt) * (0.75 + random.float() / 2);
        if (clock.nowMs() + delayMs >= this.#takenUntil.getTime()) {
          this.#lose('its claim ended before the queue could be reached to renew it');
          return;
        }
        await clock.sleep(delayMs, this.#stop.signal).catch(() => {});
      }
    }
  }

  #lose(reason: string): void {
    if (!this.#stop.signal.aborted) {
      this.stop();
      this.#options.onLost(new ClaimLost(`The task was stopped: ${reason}.`));
    }
  }
}
