import { icon } from "./icons.js";
import { cropper } from "./crop.js";
import { make } from "./dom.js";

/**
 * Where a query comes in, by choosing, dropping, pasting or the camera, and where it is shown, to be cropped.
 *
 * `onPhoto` is called with a File, `onCrop` with a part or null, `onClear` without anything, `onFailure` with a sentence.
 */
export function queryPanel(element, { onPhoto, onCrop, onClear, onFailure }) {
  const file = make("input", { type: "file", accept: "image/*", ariaLabel: "Query photo" });
  file.onchange = () => {
    if (file.files[0]) onPhoto(file.files[0]);
    file.value = ""; // the same photo may be chosen again
  };
  const invitation = make("span", { className: "invitation" }, icon("upload"), make("b", { className: "first" }, "Drop a photo here"), make("span", {}, "paste one, or click to choose a file"), make("b", { className: "another" }, "Another photo"));
  const drop = make("label", { className: "drop" }, file, invitation);

  const preview = make("img", { className: "preview", alt: "The query photo" });
  const unseen = make("p", { className: "unseen", hidden: true }, "This browser cannot show this photo.");
  const crop = cropper((part) => onCrop(part));
  const frame = make("div", { className: "photo-frame" }, preview, crop.layer);
  const part = button("crop", "Part", "Search by a part of the photo", () => crop.offer());
  const whole = button("undo", "Whole", "Search by the whole photo again", () => crop.clear());
  const clear = button("close", "Clear", "Search by no photo", onClear);
  const tools = make("div", { className: "tools" }, part, whole, clear);
  const stage = make("div", { className: "stage", hidden: true }, frame, unseen, tools);

  preview.onload = () => {
    const ratio = preview.naturalWidth / preview.naturalHeight;
    frame.style.setProperty("--ratio", ratio);
    seen(true);
  };
  preview.onerror = () => seen(false);
  function seen(it) {
    frame.hidden = !it;
    unseen.hidden = it;
    part.hidden = !it || !whole.hidden;
  }

  const camera = button("camera", "Camera", "Use the camera", () => useCamera(element.shadowRoot.lastChild, onPhoto, onFailure));
  takeDrops(element, drop, onPhoto);
  return {
    element: make("div", { className: "query" }, stage, make("div", { className: "ways" }, drop, camera)),
    file,
    /** Show the picture of a query, or none, and the part of it that is searched by. */
    show(picture, cropped) {
      stage.hidden = picture === null;
      element.classList.toggle("asked", picture !== null);
      if (picture !== null && preview.getAttribute("src") !== picture) {
        frame.hidden = unseen.hidden = true;
        preview.src = picture;
      }
      whole.hidden = cropped === null;
      part.hidden = cropped !== null || frame.hidden;
      crop.show(cropped);
    },
    /** Megapixels of the photo shown, once known. */
    megapixels: () => (preview.naturalWidth * preview.naturalHeight) / 1e6,
  };
}

function button(drawing, word, meaning, onclick) {
  const made = make("button", { type: "button", className: "quiet", title: meaning, ariaLabel: meaning }, icon(drawing), make("span", {}, word));
  made.onclick = onclick;
  return made;
}

/** A photo may be dropped anywhere on the element, and pasted anywhere while the element is shown. */
function takeDrops(element, drop, onPhoto) {
  for (const kind of ["dragover", "dragleave", "drop"]) {
    element.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", kind === "dragover");
      if (kind === "drop" && event.dataTransfer.files[0]) onPhoto(event.dataTransfer.files[0]);
    });
  }
  window.addEventListener("paste", (event) => {
    if (!element.checkVisibility()) return; // another tab is shown
    const photo = [...event.clipboardData.files].find((one) => one.type.startsWith("image/"));
    if (photo) onPhoto(photo);
  });
}

async function useCamera(place, onPhoto, onFailure) {
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ video: true });
    const video = make("video", { srcObject: stream, autoplay: true, muted: true, playsInline: true });
    const take = make("button", { type: "button", textContent: "Take the photo", disabled: true });
    const cancel = make("button", { type: "button", className: "quiet", textContent: "Cancel" });
    const dialog = make("dialog", { className: "camera", ariaLabel: "Camera" }, video, make("div", { className: "controls" }, take, cancel));
    video.onplaying = () => (take.disabled = false); // before, there is no picture to take
    cancel.onclick = () => dialog.close();
    dialog.onclose = () => {
      stream.getTracks().forEach((track) => track.stop());
      dialog.remove();
    };
    take.onclick = () => {
      const canvas = make("canvas", { width: video.videoWidth, height: video.videoHeight });
      canvas.getContext("2d").drawImage(video, 0, 0);
      canvas.toBlob((photo) => onPhoto(new File([photo], "camera.jpg")), "image/jpeg", 0.95);
      dialog.close();
    };
    place.append(dialog);
    dialog.showModal();
  } catch (error) {
    // A page that comes over plain http from another host has no camera at all.
    const reason = navigator.mediaDevices ? error.message : "browsers give it only to pages of this machine or over https";
    onFailure(`The camera cannot be used: ${reason}. Choose or paste a photo instead.`);
  }
}
