/**
 * Ids that a person names by their beginning, where naming the wrong one does harm: an approval lets a program run, a release lets evidence
 * go. The beginning has to say enough that it was meant: `ep_` or nothing at all begins every id of its kind.
 */

/**
 * Beyond a head such as `ap_`. The ids that ALE makes begin with ten characters of time: eight tell apart what is more than a second
 * apart, so that what was asked after a list was read is not what was meant.
 */
export const LEAST_BEGINNING = 8;

export const isBeginning = (word: string): boolean => word.replace(/^[a-z]+_/, "").length >= LEAST_BEGINNING;

/** What to do about a word that is none. */
export const MORE_OF_THE_ID = `write the whole id, or more of it: at least ${LEAST_BEGINNING} characters after its underscore, which no other has`;
