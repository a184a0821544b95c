import { ApiCallError } from '@tscluster/client/client.ts';

/** What a refused call says: status, code and the message without its footer. */
export const refusal = async (call: Promise<unknown>): Promise<{ status: number; code: string; message: string }> => {
  try {
    await call;
  } catch (error) {
    if (error instanceof ApiCallError) {
      const { message } = error.body as { message: string };
      return { status: error.statusCode, code: error.code, message: message.split('\n\n---\n\n')[0] ?? '' };
    }
    throw error;
  }
  throw new Error('The call was not refused');
};
