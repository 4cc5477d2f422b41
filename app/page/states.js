import { commandLine, make } from "./dom.js";

/** The largest photo that the server takes; app/uploads.py says so too, but only after the photo has been sent. */
const MOST_BYTES = 50 * 1024 ** 2;

/** A state of its own: what is the matter, and what can be done about it. */
export function notice(title, sentence, ...more) {
  return make("div", { className: "notice", role: "alert" }, make("h2", {}, title), make("p", {}, sentence), ...more);
}

export function action(words, onclick, quiet = false) {
  return Object.assign(make("button", { type: "button", className: quiet ? "quiet" : "", textContent: words }), { onclick });
}

/** What keeps a photo from being searched by before it is sent; null when nothing does. */
export function tooLarge(file) {
  if (file.size <= MOST_BYTES) return null;
  const megabytes = Math.ceil(file.size / 1024 ** 2);
  return `A query photo may have 50 MB at most, and ${file.name} has ${megabytes} MB. Export it smaller: searches look at a few hundred pixels.`;
}

/** Why a search or a list failed, told by what the server said; `again` repeats it, `browse` shows photos of the index instead. */
export function failed(error, { again, browse }) {
  const buttons = (...all) => make("div", { className: "controls" }, ...all);
  const look = action("Show photos of the index", browse, true);
  if (error.status === 429 || error.status === 503) return busy(error, again);
  if (error.status === 401) return notice("Sign in again", "The server wants its token once more.", buttons(action("Sign in", () => location.reload())));
  if (error.status === 413) return notice("This photo is too large", error.message, buttons(look));
  if (error.status === 422 && /cannot be searched with/.test(error.message)) {
    const hint = "It may be damaged, no photo at all, or of a kind that this installation does not read.";
    return notice("This photo cannot be read", error.message, make("p", {}, hint), buttons(look));
  }
  if (/no encoder/.test(error.message)) return notice("This index cannot see photos", error.message, buttons(look));
  if (/must hold photos/.test(error.message)) return empty();
  if (error.status === 404) return notice("It is not here any more", error.message, buttons(look));
  return notice(error.status ? "That did not work" : "No answer", error.message, buttons(action("Try again", again), look));
}

/** The server has too much to do: ask again by itself when it said, or after three seconds, unless the person is faster. */
function busy(error, again) {
  let left = error.wait ?? 3;
  const counting = make("span", {});
  const now = action("Try now", () => {
    clearInterval(timer);
    again();
  });
  const count = () => (counting.textContent = `Trying again in ${left} s.`);
  const timer = setInterval(() => {
    if (!now.isConnected) clearInterval(timer);
    else if (--left <= 0) now.click();
    else count();
  }, 1000);
  count();
  return notice("The server is busy", error.message, make("div", { className: "controls" }, now, counting));
}

/** An index without a photo. */
export function empty() {
  const sentence = "No photo of its folder could be read, or there was none. Put photos there and index it again:";
  return notice("This index is empty", sentence, commandLine("hdml index ./gallery"));
}

/** Filters that let nothing through. */
export function nothing(onClear) {
  const sentence = "No photo passes all of the filters. Fewer of them find more.";
  return notice("Nothing matches", sentence, make("div", { className: "controls" }, action("Clear the filters", onClear)));
}

/** A search for matches alone that finds none. */
export function noMatch(onAll) {
  const sentence = "No photo of this index scores high enough to be called a match.";
  return notice("No match", sentence, make("div", { className: "controls" }, action("Show the nearest anyway", onAll)));
}

/** The address names an uploaded photo, which only the page that it was chosen on has. */
export function photoElsewhere() {
  return notice(
    "Choose the photo again",
    "This address was made from an uploaded photo. Photos stay with the page that they were chosen on and are in no address; what " +
      "else was asked is kept, and applies as soon as the photo is chosen, dropped or pasted again.",
  );
}
