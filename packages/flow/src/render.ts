import type { ContextProfile, Event, Message } from "@ale/core";

/**
 * What the model sees, as a pure function of the log and the profile. Each event only ever adds messages at the end, so the
 * context of a longer log begins with the context of a shorter one.
 */
export function render(events: readonly Event[], profile: ContextProfile): Message[] {
  return [...opening(profile), ...events.flatMap(messagesOf)];
}

/** The messages before the first event. */
export function opening(profile: ContextProfile): Message[] {
  return profile.systemPrompt === "" ? [] : [{ role: "system", content: profile.systemPrompt }];
}

/** What one event adds to the context. */
export function messagesOf(event: Event): Message[] {
  switch (event.type) {
    case "message":
      return [{ role: event.role, content: event.content }];
    case "model.call":
      return [{ role: "assistant", content: event.text, toolCalls: event.toolCalls }];
    case "tool.result":
      return [{ role: "tool", callId: event.callId, name: event.name, content: event.content }];
    default:
      return [];
  }
}
