import { homedir } from "node:os";
import { join } from "node:path";

/** Where images and the state of sandboxes lie: $ALE_HOME, else ~/.ale. */
export const defaultHome = (): string => process.env.ALE_HOME ?? join(homedir(), ".ale");
