import { createServer as createWeb } from "node:http";
import { createServer, type Server, type Socket } from "node:net";

/**
 * The server of the proxy's figures: HTTP, and whatever comes first on the other port is answered. Listens on the sockets 3 and 4 that it
 * was started with, and on ports of loopback that it prints.
 */

const MIB = Buffer.alloc(2 ** 20, "x");

function pour(out: NodeJS.WritableStream, mebibytes: number, done: () => void): void {
  const more = (left: number): void => {
    if (left === 0) done();
    else if (out.write(MIB)) setImmediate(more, left - 1);
    else out.once("drain", () => more(left - 1));
  };
  more(mebibytes);
}

const web = (): Server =>
  createWeb((request, response) => {
    const mebibytes = Number(request.url?.slice(1)) || 0;
    response.setHeader("content-length", mebibytes * 2 ** 20 || 3);
    if (mebibytes === 0) response.end("ok\n");
    else pour(response, mebibytes, () => response.end());
  });

const raw = (): Server =>
  createServer({ noDelay: true }, (socket: Socket) => {
    socket.on("error", () => {});
    socket.on("data", (said) => {
      const wanted = /POUR (\d+)/.exec(said.toString("latin1"))?.[1];
      if (wanted === undefined) socket.write("ok\n");
      else pour(socket, Number(wanted), () => socket.end());
    });
  });

const listening = (server: Server, at: object): Promise<number> =>
  new Promise((resolve) =>
    server.listen(at, () => resolve((server.address() as { port?: number } | null)?.port ?? 0)),
  );

await listening(web(), { fd: 3 });
await listening(raw(), { fd: 4 });
const ports = await Promise.all(
  [web(), raw()].map((server) => listening(server, { port: 0, host: "127.0.0.1" })),
);
console.log(JSON.stringify(ports));
