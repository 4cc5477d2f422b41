import { ask, failure, indexChoice, make, openLens, OverIndexes, pictureOf } from "./dom.js";

const COUNTS = [10, 20, 50, 100];

/** Search by a photo that is chosen, dropped, pasted or taken, or by a photo of the gallery. */
class PhotoSearch extends OverIndexes {
  build(names) {
    this.past = [];
    this.turn = 0; // of the newest question; an answer to an older one is not shown
    this.file = make("input", { type: "file", accept: "image/*", ariaLabel: "Query photo" });
    this.file.onchange = () => this.file.files[0] && this.searchPhoto(this.file.files[0]);
    this.preview = make("img", { className: "preview", alt: "The query photo", hidden: true });
    const invitation = make(
      "span",
      { className: "invitation" },
      make("b", {}, "Drop a photo here"),
      "paste one, or click to choose a file",
    );
    this.drop = make("label", { className: "drop" }, this.file, this.preview, invitation);
    this.takeDrops();
    this.count = make("select", { ariaLabel: "Number of results" }, ...COUNTS.map((k) => make("option", { value: k }, k)));
    this.count.value = 20;
    this.count.onchange = () => this.query && this.run(this.query);
    this.back = make("button", { type: "button", className: "quiet", textContent: "Back", hidden: true });
    this.back.onclick = () => this.goBack();
    const camera = make("button", { type: "button", className: "quiet", textContent: "Use the camera" });
    camera.onclick = () => this.useCamera();
    this.choice = indexChoice(names, (name) => this.changeIndex(name));
    this.status = make("p", { className: "status", role: "status" });
    this.results = make("ol", { className: "results" });
    const count = make("label", { className: "choice" }, "Results ", this.count);
    const controls = make("div", { className: "controls" }, camera, count, this.choice, this.back);
    const side = make("div", { className: "side" }, this.drop, controls);
    this.fill(make("div", { className: "search" }, side, make("div", { className: "found" }, this.status, this.results)));
    this.showSample(names[0]);
  }

  takeDrops() {
    for (const kind of ["dragover", "dragleave", "drop"]) {
      this.drop.addEventListener(kind, (event) => {
        event.preventDefault();
        this.drop.classList.toggle("over", kind === "dragover");
        if (kind === "drop" && event.dataTransfer.files[0]) this.searchPhoto(event.dataTransfer.files[0]);
      });
    }
    window.addEventListener("paste", (event) => {
      if (!this.checkVisibility()) return; // another tab is shown
      const photo = [...event.clipboardData.files].find((file) => file.type.startsWith("image/"));
      if (photo) this.searchPhoto(photo);
    });
  }

  async useCamera() {
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ video: true });
      const video = make("video", { srcObject: stream, autoplay: true, muted: true, playsInline: true });
      const take = make("button", { type: "button", textContent: "Take the photo", disabled: true });
      const cancel = make("button", { type: "button", className: "quiet", textContent: "Cancel" });
      const dialog = make("dialog", { ariaLabel: "Camera" }, video, make("div", { className: "controls" }, take, cancel));
      video.onplaying = () => (take.disabled = false); // before, there is no picture to take
      cancel.onclick = () => dialog.close();
      dialog.onclose = () => {
        stream.getTracks().forEach((track) => track.stop());
        dialog.remove();
      };
      take.onclick = () => {
        const canvas = make("canvas", { width: video.videoWidth, height: video.videoHeight });
        canvas.getContext("2d").drawImage(video, 0, 0);
        canvas.toBlob((photo) => this.searchPhoto(new File([photo], "camera.jpg")), "image/jpeg", 0.95);
        dialog.close();
      };
      this.shadowRoot.lastChild.append(dialog);
      dialog.showModal();
    } catch (error) {
      this.fail(`The camera cannot be used: ${error.message}`);
    }
  }

  searchPhoto(file) {
    this.remember();
    this.run({ index: this.choice.control.value, file, picture: URL.createObjectURL(file) });
  }

  searchItem(index, id) {
    this.remember();
    this.run({ index, id, picture: pictureOf(id, index) });
  }

  /** A photo that was sent is looked for in the other index as well; an item of one index means nothing to another. */
  changeIndex(index) {
    this.remember();
    if (this.query?.file) this.run({ ...this.query, index });
    else this.showSample(index);
  }

  remember() {
    if (this.query) this.past.push(this.query);
  }

  goBack() {
    const previous = this.past.pop();
    if (previous) this.run(previous);
  }

  /** Ask for the like of a query. */
  async run(query) {
    const turn = this.turnTo(query, query.index);
    const parameters = new URLSearchParams({ k: this.count.value, index: query.index });
    const options = { method: "POST" };
    if (query.file) {
      options.body = new FormData();
      options.body.append("image", query.file);
    } else {
      parameters.set("id", query.id);
    }
    try {
      const answer = await ask(`/v1/search?${parameters}`, options);
      if (turn !== this.turn) return;
      this.show(answer.results, query.index);
      const model = `model ${answer.model}, index ${answer.index}`;
      const verdict = answer.verdict ? `${answer.verdict[0].toUpperCase()}${answer.verdict.slice(1)} · ` : "";
      this.say(`${verdict}${answer.results.length} photos · ${model} · ${Math.round(answer.elapsed_ms)} ms`);
    } catch (error) {
      if (turn === this.turn) this.fail(error.message);
    }
  }

  /** A few photos of an index, to search from. */
  async showSample(index) {
    const turn = this.turnTo(undefined, index);
    try {
      const { items, total } = await ask(`/v1/items?${new URLSearchParams({ index })}`);
      if (turn !== this.turn) return;
      this.show(items, index);
      this.say(`${total} photos in ${index}. Choose one to look for its like.`);
    } catch (error) {
      if (turn === this.turn) this.results.replaceChildren(make("li", {}, failure(error.message, () => this.showSample(index))));
    }
  }

  /** Show a query, or none, and its index in the controls; the number that its answer must still have to be shown. */
  turnTo(query, index) {
    this.query = query;
    this.choice.control.value = index;
    this.back.hidden = this.past.length === 0;
    this.preview.hidden = !query;
    if (query) this.preview.src = query.picture;
    this.drop.classList.toggle("filled", query !== undefined);
    this.status.classList.remove("failed");
    this.say(query ? "Searching …" : "");
    return ++this.turn;
  }

  show(items, index) {
    this.results.replaceChildren(...items.map((item) => this.card(item, index)));
  }

  card({ id, path, label, score, verdict }, index) {
    const name = label ?? path;
    const picture = make("img", { src: pictureOf(id, index), alt: name, loading: "lazy" });
    const photo = make("button", { type: "button", className: "photo", title: "Search from this photo", ariaLabel: `Search from ${path}` }, picture);
    photo.onclick = () => this.searchItem(index, id);
    const words = { textContent: "Lens", title: "Open in the hardness lens", ariaLabel: `Lens on ${path}` };
    const lens = make("button", { type: "button", className: "quiet lens", ...words });
    lens.onclick = () => openLens(index, id);
    const card = make("li", { className: "card" }, photo);
    if (score !== undefined) {
      const bar = make("span", { className: "bar", title: "Cosine similarity of the embeddings: 1 is the same direction" }, make("i"));
      bar.firstChild.style.width = `${100 * Math.max(0, score)}%`;
      const line = make("div", { className: "score" }, bar, make("span", { className: "value" }, score.toFixed(3)));
      if (verdict) line.append(make("span", { className: "verdict" }, verdict));
      card.append(line);
    }
    card.append(make("div", { className: "name" }, make("b", { title: name }, name), lens));
    card.append(make("p", { className: "path", title: path }, path));
    return card;
  }

  say(sentence) {
    this.status.textContent = sentence;
  }

  fail(sentence) {
    this.say(sentence);
    this.status.classList.add("failed");
    this.results.replaceChildren();
  }
}

customElements.define("photo-search", PhotoSearch);
