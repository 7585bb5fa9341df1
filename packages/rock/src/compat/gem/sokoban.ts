import { type Random, seededRandom } from "@ale/core";
import type { GemEnvironment, GemInstance, Step } from "./registry.ts";

/**
 * Sokoban in a small room, under the names and with the actions that GEM's clients know: push every box onto a target. A room is made
 * by pulling the boxes away from their targets, so that every one can be solved. Reward: 1 when it is solved, 0 for every other step.
 */

interface Level {
  readonly id: string;
  /** Of the room, walls included. */
  readonly size: number;
  readonly boxes: number;
  readonly maxSteps: number;
}

const LEVELS: readonly Level[] = [
  { id: "game:Sokoban-v0-easy", size: 6, boxes: 1, maxSteps: 30 },
  { id: "game:Sokoban-v0", size: 7, boxes: 2, maxSteps: 100 },
  { id: "game:Sokoban-v0-hard", size: 9, boxes: 3, maxSteps: 200 },
];

const DIRECTIONS = { up: [-1, 0], down: [1, 0], left: [0, -1], right: [0, 1] } as const;
type Direction = keyof typeof DIRECTIONS;
const NAMES = Object.keys(DIRECTIONS) as Direction[];

interface Room {
  readonly size: number;
  readonly targets: ReadonlySet<number>;
  readonly boxes: Set<number>;
  player: number;
}

export const sokoban: readonly GemEnvironment[] = LEVELS.map((level) => ({
  id: level.id,
  make: () => Promise.resolve(play(level)),
}));

function play(level: Level): GemInstance {
  let room = makeRoom(level, seededRandom("sokoban/none"));
  let steps = 0;
  const step = (note: string): Step => {
    const solved = isSolved(room);
    return {
      observation: `${note}${draw(room)}`,
      reward: solved ? 1 : 0,
      terminated: solved,
      truncated: !solved && steps >= level.maxSteps,
      info: { steps, boxesOnTargets: [...room.boxes].filter((box) => room.targets.has(box)).length },
    };
  };
  return {
    reset: (seed = Math.floor(Math.random() * 2 ** 31)) => {
      room = makeRoom(level, seededRandom(`${level.id}/${seed}`));
      steps = 0;
      return Promise.resolve({ observation: `${RULES}${draw(room)}`, info: {} });
    },
    step: (action) => {
      steps += 1;
      const direction = directionIn(action);
      if (direction === undefined) return Promise.resolve(step("That is no direction.\n"));
      return Promise.resolve(step(move(room, direction) ? "" : "You cannot go there.\n"));
    },
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

const RULES = `Push every box (X) onto a target (O). # is a wall, P you, √ a box on a target, S you on a target.
Answer with one direction a turn: \\boxed{up}, \\boxed{down}, \\boxed{left} or \\boxed{right}.
`;

function directionIn(action: string): Direction | undefined {
  const word = (/\\boxed\{\s*(\w+)\s*\}/.exec(action)?.[1] ?? action.trim()).toLowerCase();
  const numbered = /^[0-3]$/.test(word) ? NAMES[Number(word)] : undefined;
  return numbered ?? NAMES.find((name) => name === word);
}

const isWall = ({ size }: Room, cell: number): boolean => {
  const [row, column] = [Math.floor(cell / size), cell % size];
  return row <= 0 || column <= 0 || row >= size - 1 || column >= size - 1;
};

const offset = (room: Room, direction: Direction): number =>
  DIRECTIONS[direction][0] * room.size + DIRECTIONS[direction][1];

const isSolved = (room: Room): boolean => [...room.boxes].every((box) => room.targets.has(box));

/** Whether anything moved. */
function move(room: Room, direction: Direction): boolean {
  const by = offset(room, direction);
  const to = room.player + by;
  if (isWall(room, to)) return false;
  if (room.boxes.has(to)) {
    if (isWall(room, to + by) || room.boxes.has(to + by)) return false;
    room.boxes.delete(to);
    room.boxes.add(to + by);
  }
  room.player = to;
  return true;
}

/** A pull is a move away from a box behind, which comes along: the reverse of a push. */
function pull(room: Room, direction: Direction): void {
  const by = offset(room, direction);
  const to = room.player + by;
  if (isWall(room, to) || room.boxes.has(to)) return;
  const behind = room.player - by;
  if (room.boxes.delete(behind)) room.boxes.add(room.player);
  room.player = to;
}

function makeRoom({ size, boxes }: Level, random: Random): Room {
  const inner = (): number => (1 + random.int(size - 2)) * size + 1 + random.int(size - 2);
  for (;;) {
    const targets = new Set<number>();
    while (targets.size < boxes) targets.add(inner());
    let player = inner();
    while (targets.has(player)) player = inner();
    const room: Room = { size, targets, boxes: new Set(targets), player };
    for (let count = 0; count < 40 * boxes; count++) pull(room, random.pick(NAMES));
    if (!isSolved(room)) return room;
  }
}

function draw(room: Room): string {
  const cell = (at: number): string => {
    if (isWall(room, at)) return "#";
    const target = room.targets.has(at);
    if (at === room.player) return target ? "S" : "P";
    if (room.boxes.has(at)) return target ? "√" : "X";
    return target ? "O" : "_";
  };
  return Array.from({ length: room.size }, (_, row) =>
    Array.from({ length: room.size }, (_, column) => cell(row * room.size + column)).join(" "),
  ).join("\n");
}
