import { createHash, createPrivateKey, createPublicKey, type KeyObject, sign, verify } from "node:crypto";
import { AleError } from "@ale/core";
import type { EvidenceBundle } from "./evidence.ts";
import type { Finding } from "./evidence-check.ts";

/**
 * Who made a bundle: an Ed25519 signature over its digest, which is that of all else in it. The key within says only that nobody without its
 * private half changed the digest; whose key it is, only a public key that came another way shows.
 */
export type EvidenceSignature = NonNullable<EvidenceBundle["signature"]>;

/** Of text that can be nothing else that somebody signs with the same key. */
const signedText = (digest: string): Buffer => Buffer.from(`ale/evidence-signature@1\n${digest}\n`);

/** Throws an AleError `key-invalid`. `pem`: PKCS #8, not encrypted. */
export function signed(bundle: EvidenceBundle, pem: string): EvidenceBundle {
  const key = readKey(
    pem,
    createPrivateKey,
    "private",
    "openssl genpkey -algorithm ed25519 -out key.pem makes one",
  );
  const signature: EvidenceSignature = {
    algorithm: "ed25519",
    publicKey: createPublicKey(key).export({ type: "spki", format: "der" }).toString("base64"),
    value: sign(null, signedText(bundle.digest), key).toString("base64"),
  };
  return { ...bundle, signature };
}

/** What the signature shows. `pem`: the public key of whoever should have made it. Throws an AleError `key-invalid` for one that is none. */
export function signatureFinding({ digest, signature }: EvidenceBundle, pem?: string): Finding {
  const wanted =
    pem === undefined
      ? undefined
      : readKey(
          pem,
          createPublicKey,
          "public",
          "openssl pkey -in key.pem -pubout writes that of a private key",
        );
  const say = (result: Finding["result"], detail: string): Finding => ({ result, what: "signature", detail });
  if (signature === undefined)
    return wanted === undefined
      ? say("open", "not signed: it does not say who made it")
      : say("fails", "not signed, and it should be by the key that was given");
  const own = publicKeyOf(signature);
  if (own === undefined) return say("fails", "what it gives as its key is none");
  if (!verify(null, signedText(digest), own, Buffer.from(signature.value, "base64")))
    return say("fails", `the signature is not that of key ${fingerprint(own)} over this digest`);
  if (wanted === undefined)
    return say("open", `signed by key ${fingerprint(own)}; whose that is, --public-key FILE shows`);
  return own.equals(wanted)
    ? say("holds", `signed by the key that was given, ${fingerprint(own)}`)
    : say(
        "fails",
        `signed by key ${fingerprint(own)}, and not by the one that was given, ${fingerprint(wanted)}`,
      );
}

/** As people compare them. */
export const signatureText = (signature: EvidenceBundle["signature"]): string => {
  if (signature === undefined) return "none: it does not say who made it";
  const key = publicKeyOf(signature);
  return key === undefined ? "of a key that is none" : `Ed25519, key ${fingerprint(key)}`;
};

function publicKeyOf({ publicKey }: EvidenceSignature): KeyObject | undefined {
  try {
    const key = createPublicKey({ key: Buffer.from(publicKey, "base64"), type: "spki", format: "der" });
    return key.asymmetricKeyType === "ed25519" ? key : undefined;
  } catch {
    return undefined;
  }
}

function readKey(pem: string, read: (pem: string) => KeyObject, kind: string, next: string): KeyObject {
  const invalid = (why: string, cause?: unknown): AleError =>
    new AleError("key-invalid", `that is no ${kind} Ed25519 key: ${why}`, { next, cause });
  // A private key has its public one in it; who is handed that to check with has too much.
  if (kind === "public" && /PRIVATE KEY/.test(pem)) throw invalid("it is a private one");
  let key: KeyObject;
  try {
    key = read(pem);
  } catch (cause) {
    throw invalid(/ENCRYPTED/.test(pem) ? "it is encrypted" : "it is no PEM of a key", cause);
  }
  if (key.asymmetricKeyType !== "ed25519") throw invalid(`it is of the kind ${key.asymmetricKeyType}`);
  return key;
}

/** SHA-256 of its SubjectPublicKeyInfo, base64. */
const fingerprint = (key: KeyObject): string =>
  `SHA256:${createHash("sha256")
    .update(key.export({ type: "spki", format: "der" }))
    .digest("base64")
    .replace(/=+$/, "")}`;
