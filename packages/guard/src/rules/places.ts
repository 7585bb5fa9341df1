/** Source of a regular expression for somebody's home directory. */
export const HOME = String.raw`(?:~[\w-]*|/root|/home/[^/]+)`;
