/** For tests of graphs: what is submitted, and what a refusal says. */
import { schedulerApi, type GraphProblem, type GraphRefusal, type SubmittedGraph } from '@tscluster/api/scheduler/api.ts';
import { ApiCallError, type Client } from '@tscluster/client/client.ts';
import type { TestServer } from '../../../testing/server.ts';
import { type NewDefinition, type QueueServer, aTask } from '../testing.ts';

export interface GraphItem {
  taskId: string;
  task: NewDefinition;
}

export type SchedulerClient = Client<typeof schedulerApi>;

/** A client of the scheduler that may do everything, or what is said. */
export const schedulerOf = (server: TestServer, scopes?: readonly string[] | null): SchedulerClient =>
  server.client(schedulerApi, scopes === undefined ? {} : { scopes });

/** Tasks that depend on each other by their place in the list; further fields for some. */
export const aGraph = (
  server: QueueServer,
  edges: readonly (readonly number[])[],
  fields: (index: number) => Partial<NewDefinition> = () => ({}),
): GraphItem[] => {
  const ids = edges.map(() => server.newId());
  return edges.map((required, index) => ({
    taskId: ids[index] as string,
    task: aTask(server.clock, { dependencies: required.map(place => ids[place] as string), ...fields(index) }),
  }));
};

/** What a graph was refused with. */
export const refusedGraph = async (
  call: Promise<SubmittedGraph>,
): Promise<GraphRefusal & GraphRefusal['details'] & { statusCode: number }> => {
  try {
    await call;
  } catch (error) {
    if (error instanceof ApiCallError) {
      const body = error.body as GraphRefusal;
      return { statusCode: error.statusCode, ...body, ...body.details };
    }
    throw error;
  }
  throw new Error('The graph was not refused');
};

/** `code field` of each problem. */
export const summaryOf = ({ problems }: { readonly problems: readonly GraphProblem[] }): string[] =>
  problems.map(({ code, field }) => `${code} ${field}`);
