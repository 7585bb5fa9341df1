/**
 * Expected failures are values. A function that can fail in a way its caller should handle returns a `Result`;
 * bugs throw. Nothing here formats text for people: that is done once, at each edge.
 */
export type Result<T, E> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly error: E };

export const ok = <T>(value: T): Result<T, never> => ({ ok: true, value });
export const err = <E>(error: E): Result<never, E> => ({ ok: false, error });

/** A failure a person can act on: what happened, to what, and what to do next. */
export class AleError extends Error {
  readonly code: string;
  readonly next: string | undefined;

  constructor(code: string, message: string, options: { next?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? {} : { cause: options.cause });
    this.name = "AleError";
    this.code = code;
    this.next = options.next;
  }
}
