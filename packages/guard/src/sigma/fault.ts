/** Why a rule file cannot be used, and where: `file:line:column`. */
export interface RuleFault {
  readonly file: string;
  /** From 1. */
  readonly line: number;
  readonly column: number;
  /** Title or name of the rule; null where it could not be told. */
  readonly rule: string | null;
  readonly message: string;
}

export const faultText = (fault: RuleFault): string =>
  `${fault.file}:${fault.line}:${fault.column}: ${fault.rule === null ? "" : `${fault.rule}: `}${fault.message}`;
