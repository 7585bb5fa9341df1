/** What may be asked for at all, said once for the server that refuses and for a command line that refuses earlier, in its own words. */

export const SANDBOX_ID = /^[a-z0-9][a-z0-9-]{0,62}$/;
export const MOST_CPUS = 256;
export const MOST_PIDS = 32_768;
/** With less, PID 1 does not live. */
export const LEAST_MEMORY_BYTES = 4 * 2 ** 20;
/** With less, a writable layer has no room for its own directories. */
export const LEAST_DISK_BYTES = 256 * 2 ** 10;
