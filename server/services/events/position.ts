/** Places in the stream of all events, which are places in the event log. */
import { POSITION_PATTERN } from '@tscluster/api/events/api.ts';
import { apiError } from '../../platform/errors.ts';

/** After event `index` of row `seq`; `WHOLE`: after all of the row. */
export interface Position {
  readonly seq: number;
  readonly index: number;
}

export const WHOLE = Number.POSITIVE_INFINITY;

export const showPosition = ({ seq, index }: Position): string => (index === WHOLE ? String(seq) : `${seq}-${index}`);

/**
 * The place that an id names; undefined when none is given. The header counts before the query, because a browser that reconnects updates only that.
 *
 * @throws ApiError `InvalidRequestArguments`
 */
export const readPosition = (header: string | string[] | undefined, query: string | undefined): Position | undefined => {
  const text = (Array.isArray(header) ? header.at(-1) : header) || query;
  if (text === undefined) {
    return undefined;
  }
  if (!POSITION_PATTERN.test(text)) {
    return apiError(
      'InvalidRequestArguments',
      `Last-Event-ID: '${text}' is not an id of this stream: it does not match ${String(POSITION_PATTERN)}`,
    );
  }
  const [seq = '', index] = text.split('-');
  return { seq: Number(seq), index: index === undefined ? WHOLE : Number(index) };
};
