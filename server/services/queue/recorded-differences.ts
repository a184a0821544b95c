/** Where the queue does something else than the recorded sequences, and why; and the shape of a recording. For the test that replays them. */
export interface RecordedEvent {
  readonly exchange: string;
  readonly routingKey: string;
  readonly cc: readonly string[];
  readonly payload: Record<string, unknown>;
}
export interface Step {
  readonly call?: string;
  readonly args?: readonly unknown[];
  readonly body?: Record<string, unknown>;
  readonly wait?: string;
  readonly note?: string;
  readonly result?: unknown;
  readonly error?: { readonly statusCode: number; readonly code: string; readonly required?: unknown };
  readonly events?: readonly RecordedEvent[];
}
export interface Sequence {
  readonly name: string;
  readonly description: string;
  readonly steps: readonly Step[];
}

/**
 * What differs: at a step (by number, from 0) its result or error; of a task or group the names of the exchanges on which it was announced.
 */
export interface Difference {
  readonly why: string;
  readonly steps?: Readonly<Record<number, { readonly result?: unknown; readonly error?: Step['error'] }>>;
  readonly events?: Readonly<Record<string, readonly string[]>>;
}

const AT_ONCE = 'dependents and groups are released in the transaction that resolves a task, not by a job later';
const OUTBOX = 'messages are stored with the change and sent when the broker takes them';

const status = (taskId: string, state: string, runs: readonly object[], more: object = {}) => ({
  status: { taskId, state, priority: 'lowest', retriesLeft: 5, runs, ...more },
});
const pendingRun = { runId: 0, state: 'pending', reasonCreated: 'scheduled', scheduled: '<time>' };

export const DIFFERENCES: Readonly<Record<string, Difference>> = {
  'deps-missing': {
    why: 'a refused call changes nothing, so there is no group either',
    steps: { 2: { error: { statusCode: 404, code: 'ResourceNotFound' } } },
    events: { 'group $G': [] },
  },
  'deps-all-completed': { why: AT_ONCE, steps: { 8: { result: status('$C', 'pending', [pendingRun]) } } },
  'priority-change': {
    why: `${AT_ONCE}; a resolved task keeps its priority from that moment`,
    steps: { 9: { error: { statusCode: 409, code: 'RequestConflict' } }, 12: { result: { status: '<status>' } } },
    events: {
      'task $A': [
        'task-defined',
        'task-pending',
        'task-priority-changed',
        'task-running',
        'task-priority-changed',
        'task-failed',
        'task-pending',
      ],
    },
  },
  'exception-worker-shutdown': {
    why: 'a repeated exception of an earlier run does not resolve the task (marked as a mistake of the recording)',
    events: { 'group $A': ['task-group-resolved'] },
  },
  'rerun-limit': {
    why: 'the recording leaves out the events of its loop',
    events: {
      'task $A': [
        'task-defined',
        'task-pending',
        ...Array.from({ length: 49 }, () => ['task-exception', 'task-pending']).flat(),
        'task-exception',
      ],
    },
  },
  'claim-exclusive': {
    why: 'which of two workers gets which task is open',
    events: Object.fromEntries(['$A', '$B', '$C', '$D'].map(id => [`task ${id}`, ['task-defined', 'task-pending', 'task-running']])),
  },
  'group-cancel': { why: 'the messages of a cancelled group have tags and priority as all others', events: {} },
  'reclaim-errors': { why: 'marked as a mistake', steps: { 1: { error: { statusCode: 409, code: 'RequestConflict' } } } },
  quarantine: { why: 'marked as a mistake', steps: { 5: { error: { statusCode: 409, code: 'RequestConflict' } } } },
  'artifacts-object': {
    why: 'marked as a mistake',
    steps: { 18: {} },
    events: {
      'task $A': ['task-defined', 'task-pending', 'task-running', ...Array.from({ length: 5 }, () => 'artifact-created')],
    },
  },
  'artifacts-object-repeat': {
    why: 'marked as a mistake',
    steps: {
      3: {
        result: {
          storageType: 'object',
          name: 't/$A/0/public/o',
          projectId: 'none',
          uploadId: '$U1',
          expires: '<time>',
          credentials: { clientId: 'artifact-upload/$A/0/on/wg1/worker-a', accessToken: '<secret>', certificate: '<secret>' },
        },
      },
    },
  },
  'max-deps': { why: 'marked as a mistake', steps: { 0: { error: { statusCode: 400, code: 'InputError' } } }, events: { 'task $A': [] } },
  'defect-exception-repeat-after-retry-claimed': {
    why: 'marked as a mistake',
    steps: { 7: { result: status('$C', 'unscheduled', []) } },
    events: { 'task $C': ['task-defined'], 'group $A': [] },
  },
  'defect-publish-failure-cancel-group': {
    why: OUTBOX,
    steps: {
      4: { result: { taskGroupId: '$G', taskGroupSize: 2, cancelledCount: 2, taskIds: ['$A', '$B'] } },
      9: { result: status('$C', 'pending', [pendingRun]) },
    },
    events: {
      'task $A': ['task-defined', 'task-pending', 'task-exception'],
      'task $B': ['task-defined', 'task-pending', 'task-exception'],
      'task $C': ['task-defined', 'task-pending'],
      'group $G': ['task-group-sealed', 'task-group-resolved'],
    },
  },
  'defect-publish-failure-deadline': {
    why: OUTBOX,
    events: { 'task $A': ['task-defined', 'task-pending', 'task-exception'], 'group $A': ['task-group-resolved'] },
  },
  'defect-publish-failure-schedule': {
    why: OUTBOX,
    steps: { 1: { result: status('$A', 'pending', [pendingRun]) } },
    events: { 'task $A': ['task-defined', 'task-pending'] },
  },
  'publish-failure-report': {
    why: OUTBOX,
    steps: { 2: { result: { status: '<status>' } } },
    events: {
      'task $A': ['task-defined', 'task-pending', 'task-running', 'task-completed', 'task-completed'],
      'group $A': ['task-group-resolved', 'task-group-resolved'],
    },
  },
  'defect-publish-failure-priority': {
    why: OUTBOX,
    steps: { 1: { result: status('$A', 'pending', [pendingRun], { priority: 'high' }) } },
    events: { 'task $A': ['task-defined', 'task-pending', 'task-priority-changed'] },
  },
};
