import { ask, firstSteps, indexChoice, indexes, Isolated, make, openLens, pictureOf } from "./dom.js";

const COUNTS = [10, 20, 50, 100];

/** Search by a photo that is chosen, dropped, pasted or taken, or by a photo of the gallery. */
class PhotoSearch extends Isolated {
  async connectedCallback() {
    if (this.ready) return;
    this.ready = true;
    this.past = [];
    const found = await indexes();
    if (found.length === 0) {
      this.fill(firstSteps());
      return;
    }
    this.index = found[0].name;
    this.sizes = new Map(found.map((index) => [index.name, index.items]));
    this.build(found);
    this.say(`${this.sizes.get(this.index)} photos in ${this.index}. Choose one to look for its like.`);
    this.showSample();
  }

  build(found) {
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
    const names = found.map((index) => index.name);
    const choice = indexChoice(names, (name) => {
      this.index = name;
      this.query ? this.run(this.query) : this.showSample();
    });
    this.status = make("p", { className: "status", role: "status" });
    this.results = make("ol", { className: "results" });
    const controls = make("div", { className: "controls" }, camera, make("label", { className: "choice" }, "Results ", this.count), choice, this.back);
    const side = make("div", { className: "side" }, this.drop, controls);
    this.fill(make("div", { className: "search" }, side, make("div", { className: "found" }, this.status, this.results)));
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
      const photo = [...event.clipboardData.files].find((file) => file.type.startsWith("image/"));
      if (photo) this.searchPhoto(photo);
    });
  }

  async useCamera() {
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ video: true });
      const video = make("video", { srcObject: stream, autoplay: true, muted: true, playsInline: true });
      const take = make("button", { type: "button", textContent: "Take the photo" });
      const dialog = make("dialog", {}, video, take);
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
    this.run({ file, picture: URL.createObjectURL(file) });
  }

  searchItem(id) {
    this.remember();
    this.run({ id, picture: pictureOf(id, this.index) });
  }

  remember() {
    if (this.query) this.past.push(this.query);
  }

  goBack() {
    const previous = this.past.pop();
    if (previous) this.run(previous);
  }

  /** Ask for the like of a query; the newest question's answer is shown, whichever comes first. */
  async run(query) {
    this.query = query;
    this.back.hidden = this.past.length === 0;
    this.preview.src = query.picture;
    this.preview.hidden = false;
    this.drop.classList.add("filled");
    this.status.classList.remove("failed");
    this.say("Searching …");
    const parameters = new URLSearchParams({ k: this.count.value, index: this.index });
    const options = { method: "POST" };
    if (query.file) {
      options.body = new FormData();
      options.body.append("image", query.file);
    } else {
      parameters.set("id", query.id);
    }
    try {
      const answer = await ask(`/v1/search?${parameters}`, options);
      if (this.query !== query) return;
      this.show(answer.results);
      const model = `model ${answer.model}, index ${answer.index}`;
      this.say(`${answer.results.length} of ${this.sizes.get(answer.index)} photos · ${model} · ${Math.round(answer.elapsed_ms)} ms`);
    } catch (error) {
      if (this.query === query) this.fail(error.message);
    }
  }

  async showSample() {
    const { items } = await ask(`/v1/items?${new URLSearchParams({ index: this.index })}`);
    if (!this.query) this.show(items);
  }

  show(items) {
    this.results.replaceChildren(...items.map((item) => this.card(item)));
  }

  card({ id, path, label, score }) {
    const name = label ?? path;
    const picture = make("img", { src: pictureOf(id, this.index), alt: name, loading: "lazy" });
    const photo = make("button", { type: "button", className: "photo", title: "Search from this photo" }, picture);
    photo.onclick = () => this.searchItem(id);
    const lens = make("button", { type: "button", className: "quiet lens", textContent: "Lens", title: "Open in the hardness lens" });
    lens.onclick = () => openLens(this.index, id);
    const card = make("li", { className: "card" }, photo);
    if (score !== undefined) {
      const bar = make("span", { className: "bar", title: "Cosine similarity of the embeddings: 1 is the same direction" }, make("i"));
      bar.firstChild.style.width = `${100 * Math.max(0, score)}%`;
      card.append(make("div", { className: "score" }, bar, make("output", {}, score.toFixed(3))));
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
