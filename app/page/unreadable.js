import { ask, failure, make } from "./dom.js";

const PAGE = 200; // files asked for at once

/** Into a pane, the files of an index that could not be read, with their reasons; `isCurrent` tells whether they are still wanted. */
export async function showUnreadable(pane, index, isCurrent, offset = 0) {
  try {
    const { failures, total } = await ask(`/v1/failures?${new URLSearchParams({ index, offset, limit: PAGE })}`);
    if (!isCurrent()) return;
    if (total === 0) return pane.replaceChildren(make("p", { className: "empty" }, "Every photo file of this gallery could be read."));
    const rows = failures.map(({ path, reason }) => make("tr", {}, make("th", { scope: "row" }, path), make("td", {}, reason)));
    if (offset) pane.querySelector("tbody").append(...rows);
    else pane.replaceChildren(
      make("p", { className: "status" }, `${total} ${total === 1 ? "file" : "files"} could not be read. The next hdml index tries ${total === 1 ? "it" : "them"} again.`),
      make("div", { className: "scroll" }, make("table", { className: "plain" }, make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "File"), make("th", { scope: "col" }, "Reason"))), make("tbody", {}, ...rows))));
    pane.querySelector(".more")?.remove();
    if (offset + failures.length < total) {
      const more = make("button", { type: "button", className: "quiet more", textContent: "Show more" });
      more.onclick = () => showUnreadable(pane, index, isCurrent, offset + PAGE);
      pane.append(more);
    }
  } catch (error) {
    if (isCurrent()) pane.replaceChildren(failure(error.message, () => showUnreadable(pane, index, isCurrent)));
  }
}
