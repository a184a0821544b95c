/** What is wrong with a graph: everything, though not everything is listed. */
import { MAX_LISTED_PROBLEMS, type GraphProblem } from '@tscluster/api/scheduler/api.ts';
import type { ScopeExpression } from '@tscluster/api/scopes.ts';
import type { Held } from '../../../platform/authorize.ts';
import { ApiError } from '../../../platform/errors.ts';
import { howToGet } from '../../../platform/missing-scopes.ts';

/** From the most basic to the least: the order in which `createTask` looks. The first that occurs decides the status of the answer. */
const CODES = ['InputValidationError', 'InsufficientScopes', 'InputError', 'RequestConflict'] as const;
export type ProblemCode = (typeof CODES)[number];

/** Characters of JSON that the list may have. */
const MAX_CHARACTERS = 1_000_000;
/** Problems in the text for people, and scopes missing altogether. */
const MAX_NAMED = 10;
const MAX_SCOPES = 100;

export interface Found {
  readonly code: ProblemCode;
  /** Place of the task in the request; absent for the graph as a whole. */
  readonly index?: number;
  readonly taskId?: string | undefined;
  /** JSON pointer into the request. */
  readonly field: string;
  readonly message: string;
  readonly missingScopes?: ScopeExpression;
}

export class Problems {
  readonly #taskGroupId: string;
  readonly #held: Held;
  #found: Found[] = [];
  readonly #codes = new Set<ProblemCode>();
  #count = 0;

  constructor(taskGroupId: string, held: Held) {
    this.#taskGroupId = taskGroupId;
    this.#held = held;
  }

  get count(): number {
    return this.#count;
  }

  add(problem: Found): void {
    this.#count++;
    this.#codes.add(problem.code);
    this.#found.push(problem);
    // what can never be listed is not kept; the order of the tasks decides only at the end
    if (this.#found.length > 20 * MAX_LISTED_PROBLEMS) {
      this.#found = this.#sorted().slice(0, MAX_LISTED_PROBLEMS);
    }
  }

  #sorted(): Found[] {
    return this.#found.toSorted((a, b) => (a.index ?? -1) - (b.index ?? -1));
  }

  /** The refusal, if there is anything to refuse. */
  throwIfAny(): void {
    if (this.#count > 0) {
      throw this.#refusal();
    }
  }

  #refusal(): ApiError {
    const problems: GraphProblem[] = [];
    let characters = 0;
    for (const { index: _, taskId, missingScopes, ...problem } of this.#sorted().slice(0, MAX_LISTED_PROBLEMS)) {
      const listed: GraphProblem = {
        ...problem,
        ...(taskId === undefined ? {} : { taskId }),
        ...(missingScopes === undefined ? {} : { missingScopes }),
      };
      characters += JSON.stringify(listed).length;
      if (characters > MAX_CHARACTERS && problems.length > 0) {
        break;
      }
      problems.push(listed);
    }
    const code = CODES.find(each => this.#codes.has(each)) as ProblemCode;
    const more = this.#count - Math.min(problems.length, MAX_NAMED);
    const text = [
      `Graph ${this.#taskGroupId} was not created: ${this.#count} ${this.#count === 1 ? 'problem' : 'problems'}.`,
      ...problems
        .slice(0, MAX_NAMED)
        .map(({ taskId, field, message }) => `* ${taskId === undefined ? '' : `${taskId} `}${field}: ${message}`),
      ...(more > 0
        ? [`… and ${more} more; \`problems\` lists ${problems.length === this.#count ? 'all' : `the first ${problems.length}`}.`]
        : []),
    ];
    const missing = missingAltogether(problems);
    const lacking = missing && this.#held.describe(missing);
    if (lacking) {
      text.push('', ...(lacking.grantTo ? howToGet(lacking) : ['The request carries no credentials.']));
    }
    return new ApiError(code, text.join('\n'), {}, { problems, problemCount: this.#count, ...lacking });
  }
}

/** What the caller would need besides what it has, once for all tasks: that is what somebody has to be asked for. */
const missingAltogether = (problems: readonly GraphProblem[]): ScopeExpression | undefined => {
  const parts = new Map<string, ScopeExpression>();
  for (const { missingScopes } of problems) {
    if (missingScopes !== undefined) {
      const expression = missingScopes as ScopeExpression;
      for (const part of typeof expression === 'object' && 'AllOf' in expression ? expression.AllOf : [expression]) {
        parts.set(JSON.stringify(part), part);
      }
    }
  }
  return parts.size === 0 ? undefined : { AllOf: [...parts.values()].slice(0, MAX_SCOPES) };
};
