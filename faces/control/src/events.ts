import type { Event } from "@skep/api/schemas";

/** What happened, as an engine tells it; id and time are added here. */
export type NewEvent = Pick<Event, "type" | "subject" | "data">;

type Listener = (event: Event) => void;

/**
 * The last events, so that a stream can be resumed by the id it saw last. Ids grow over restarts,
 * too: they begin at the start's time in microseconds.
 */
export class Events {
  readonly #kept: Event[] = [];
  readonly #listeners = new Set<Listener>();
  readonly #capacity: number;
  readonly #firstId: number;
  #nextId: number;

  constructor(capacity = 1000, firstId = Date.now() * 1000) {
    this.#capacity = capacity;
    this.#firstId = firstId;
    this.#nextId = firstId;
  }

  publish(event: NewEvent): void {
    const full: Event = { id: this.#nextId++, time: new Date().toISOString(), ...event };
    this.#kept.push(full);
    if (this.#kept.length > this.#capacity) this.#kept.shift();
    for (const listener of this.#listeners) listener(full);
  }

  /**
   * Events after `lastEventId`, then each new one. Where some of them are no longer known, the
   * first is of type `events.lost`. Returns how to unsubscribe.
   */
  subscribe(listener: Listener, lastEventId?: number): () => void {
    if (lastEventId !== undefined) {
      const oldest = this.#kept[0]?.id ?? this.#nextId;
      if (lastEventId < Math.max(oldest, this.#firstId) - 1 || lastEventId >= this.#nextId) {
        const id = Math.max(oldest - 1, 0);
        listener({ id, time: new Date().toISOString(), type: "events.lost", subject: "", data: null });
        for (const event of this.#kept) listener(event);
      } else {
        for (const event of this.#kept) if (event.id > lastEventId) listener(event);
      }
    }
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}
