import { ask, commandLine, failure, make, pictureOf } from "./dom.js";
import { forget } from "./marks.js";
import { day } from "./quantities.js";

/** Into a pane, the marks of an index, to be downloaded or taken back; `isCurrent` tells whether they are still wanted. */
export async function showMarked(pane, index, isCurrent) {
  const asked = new URLSearchParams({ index }), again = () => showMarked(pane, index, isCurrent);
  try {
    const { marks: found, total } = await ask(`/v1/feedback?${asked}`);
    if (!isCurrent()) return;
    if (total === 0) {
      pane.replaceChildren(make("p", { className: "empty" }, "Nothing is marked yet. Mark results as right or wrong where you search, or beside a photo here; training can learn from it."));
      return;
    }
    const command = `hdml train PHOTOS --feedback ${/^[\w.-]+$/.test(index) ? index : `'${index.replaceAll("'", "'\\''")}'`}`;
    const right = found.filter((mark) => mark.right).length;
    const table = make("a", { href: `/v1/feedback?${asked}&format=csv`, download: "marks.csv" }, "CSV");
    const json = make("a", { href: `/v1/feedback?${asked}`, download: "marks.json" }, "JSON");
    pane.replaceChildren(
      make("p", { className: "status" }, `${right} marked right and ${total - right} wrong. Download them as `, table, " or ", json, ", or train with them:"),
      commandLine(command),
      make("ol", { className: "marked" }, ...[...found].reverse().map((mark) => row(index, mark, again))));
  } catch (error) {
    if (isCurrent()) pane.replaceChildren(failure(error.message, again));
  }
}

function row(index, mark, again) {
  const photo = (present, source, name) => {
    const shown = present ? make("img", { src: source, alt: "", loading: "lazy" }) : make("span", { className: "gone" }, "gone");
    return make("figure", {}, shown, make("figcaption", { title: name }, name));
  };
  const asked = mark.photo === null ? pictureOf(mark.query, index) : `/v1/feedback/${mark.id}/photo?${new URLSearchParams({ index })}`;
  const word = make("b", { className: mark.right ? "kept" : "lost" }, mark.right ? "right" : "wrong");
  const undo = make("button", { type: "button", className: "quiet", textContent: "Take back", ariaLabel: `Take back the mark of ${mark.item_path}` });
  undo.onclick = async () => {
    await ask(`/v1/feedback/${mark.id}?${new URLSearchParams({ index })}`, { method: "DELETE" }).catch(() => {});
    forget(index);
    again();
  };
  return make("li", {}, photo(mark.query_present, asked, mark.query_path), word, photo(mark.item_present, pictureOf(mark.item, index), mark.item_path), make("small", {}, day(mark.marked)), undo);
}
