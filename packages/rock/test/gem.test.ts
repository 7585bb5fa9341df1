import { describe, expect, test } from "vitest";
import { builtInGames as games } from "../src/compat/apis.ts";
import { guessTheNumber } from "../src/compat/gem/guess.ts";
import type { GemHost } from "../src/compat/gem/registry.ts";
import { GemRegistry } from "../src/compat/gem/registry.ts";
import { sokoban } from "../src/compat/gem/sokoban.ts";
import { GemTable } from "../src/compat/gem/table.ts";

const noHost = (): GemHost => {
  throw new Error("these games need no sandbox");
};
const table = (more: object = {}): GemTable =>
  new GemTable({ registry: games(), hostOf: () => ({}) as GemHost, ...more });

describe("environments played with text", () => {
  test("a guess is answered until it is right", async () => {
    await using game = await guessTheNumber.make({} as GemHost);
    await game.reset(7);
    let [low, high] = [1, 50];
    for (;;) {
      const middle = Math.floor((low + high) / 2);
      const step = await game.step(`I say \\boxed{${middle}}`);
      if (step.terminated) {
        expect(step.reward).toBe(1);
        break;
      }
      expect(step.truncated).toBe(false);
      if (step.observation.includes("too low")) low = middle + 1;
      else high = middle - 1;
    }
  });

  test("guesses are limited", async () => {
    await using game = await guessTheNumber.make({} as GemHost);
    await game.reset(7);
    const steps = [];
    for (let i = 0; i < 10; i++) steps.push(await game.step("no idea"));
    expect(steps.map(({ truncated }) => truncated)).toEqual([...Array<boolean>(9).fill(false), true]);
  });

  test("the same seed gives the same room, and every easy room can be solved", async () => {
    const [easy] = sokoban;
    await using one = await easy!.make({} as GemHost);
    await using other = await easy!.make({} as GemHost);
    for (let seed = 0; seed < 40; seed++) {
      const room = (await one.reset(seed)).observation;
      expect((await other.reset(seed)).observation).toBe(room);
      expect(shortest(room), room).toBeGreaterThan(0);
    }
  });

  test("pushing the box home is worth 1 and ends it", async () => {
    await using game = await sokoban[0]!.make({} as GemHost);
    const moves = solution((await game.reset(3)).observation)!;
    const steps = [];
    for (const move of moves) steps.push(await game.step(`\\boxed{${move}}`));
    expect(steps.at(-1)).toMatchObject({ reward: 1, terminated: true, truncated: false });
    expect(steps.slice(0, -1).every(({ reward, terminated }) => reward === 0 && !terminated)).toBe(true);
  });
});

describe("games of a server", () => {
  test("unknown environments and doubled names are told apart", async () => {
    await using games = table();
    await expect(games.make("a", "game:Nothing")).rejects.toMatchObject({ code: "environment-unknown" });
    expect(() => new GemRegistry().register(guessTheNumber).register(guessTheNumber)).toThrow(/already/);
    expect(games.registry.ids()).toContain("game:Sokoban-v0-easy");
    expect(noHost).toThrow();
  });

  test("are stepped after a reset, and after an end only once more reset", async () => {
    await using games = table();
    const id = await games.make("a", "game:GuessTheNumber-v0");
    await expect(games.step("a", id, "1")).rejects.toMatchObject({ code: "reset-first" });
    await games.reset("a", id, 1);
    for (let i = 0; i < 10; i++) await games.step("a", id, "none");
    await expect(games.step("a", id, "1")).rejects.toMatchObject({ code: "reset-first" });
    await games.reset("a", id, 1);
    await games.step("a", id, "1");
  });

  test("belong to one tenant, are counted, and close twice without complaint", async () => {
    await using games = table({ maxPerTenant: 1 });
    const id = await games.make("a", "game:GuessTheNumber-v0");
    expect(() => games.reset("b", id, 1)).toThrow(/no game/);
    await expect(games.make("a", "game:GuessTheNumber-v0")).rejects.toMatchObject({ code: "too-many-games" });
    await games.close("b", id);
    await games.reset("a", id, 1);
    await games.close("a", id);
    await games.close("a", id);
    await games.make("a", "game:GuessTheNumber-v0");
  });

  test("that nobody calls are closed", async () => {
    await using games = table({ idleMs: 20 });
    const id = await games.make("a", "game:GuessTheNumber-v0");
    await expect.poll(() => codeOf(() => games.reset("a", id, 1))).toBe("game-unknown");
  });
});

const codeOf = (attempt: () => unknown): string | undefined => {
  try {
    attempt();
  } catch (error) {
    return (error as { code?: string }).code;
  }
  return undefined;
};

const MOVES = { up: [-1, 0], down: [1, 0], left: [0, -1], right: [0, 1] } as const;
const shortest = (room: string): number => solution(room)?.length ?? -1;

/** The shortest solution of a room with one box, by breadth-first search over what is drawn. */
function solution(observation: string): string[] | undefined {
  const lines = observation.split("\n").filter((line) => line.startsWith("#"));
  const grid = lines.map((line) => line.split(" "));
  const find = (...signs: string[]): number[] => {
    const row = grid.findIndex((line) => line.some((cell) => signs.includes(cell)));
    return [row, grid[row]!.findIndex((cell) => signs.includes(cell))];
  };
  const [player, box, target] = [find("P", "S"), find("X", "√"), find("O", "√", "S")];
  const wall = ([row, column]: number[]): boolean => grid[row!]?.[column!] === "#";
  const key = (...places: number[][]): string => places.join(";");
  const seen = new Set([key(player, box)]);
  let front = [{ player, box, moves: [] as string[] }];
  while (front.length > 0) {
    const next: typeof front = [];
    for (const state of front)
      for (const [name, [down, right]] of Object.entries(MOVES)) {
        const to = [state.player[0]! + down, state.player[1]! + right];
        const pushes = key(to) === key(state.box);
        const moved = pushes ? [to[0]! + down, to[1]! + right] : state.box;
        if (wall(to) || wall(moved) || seen.has(key(to, moved))) continue;
        seen.add(key(to, moved));
        const moves = [...state.moves, name];
        if (key(moved) === key(target)) return moves;
        next.push({ player: to, box: moved, moves });
      }
    front = next;
  }
  return undefined;
}
