// The page: takes pictures by choice, camera, drop and paste, and shows what classifier.js answers.

const [about, drop, preview, status, progress, classes] = [
  "about", "drop", "preview", "status", "progress", "classes",
].map((id) => document.getElementById(id));

let worker; // none, if it could not start
let shown = 0; // the number of the picture on show; answers to earlier ones come too late

function say(text, isError = false) {
  status.textContent = text;
  status.classList.toggle("error", isError);
}

function cannotLoad(reason) {
  worker = undefined;
  progress.hidden = true;
  const remedy =
    location.protocol === "file:"
      ? "Browsers do not let pages opened from disk read files: serve the folder over HTTP, " +
        "for example by python -m http.server."
      : "Reload the page to try again.";
  say(`The model cannot be loaded (${reason}). ${remedy}`, true);
}

async function classify(file) {
  if (!worker) return;
  const id = ++shown;
  classes.replaceChildren();
  preview.hidden = true;
  let bitmap;
  try {
    // Upright by its EXIF orientation, which is the default, and with its pixels as they are.
    bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" });
  } catch {
    if (id === shown) {
      say(`${file.name} is no picture that this browser can read; choose a JPEG, PNG or WebP.`, true);
    }
    return;
  }
  if (id !== shown) return;
  URL.revokeObjectURL(preview.src);
  preview.src = URL.createObjectURL(file);
  preview.alt = file.name;
  preview.hidden = false;
  say(progress.hidden ? "Looking …" : "Loading the model …");
  worker.postMessage({ id, bitmap }, [bitmap]);
}

function show({ ranking, milliseconds }) {
  const percent = (p) => (p < 0.001 ? "< 0.1 %" : `${(100 * p).toFixed(1)} %`);
  const [best] = ranking;
  say(`Most likely ${best.label} (${percent(best.probability)}), in ${Math.ceil(milliseconds)} ms.`);
  classes.replaceChildren(
    ...ranking.map(({ label, probability }) => {
      const row = document.createElement("li");
      row.dataset.probability = probability;
      row.style.setProperty("--probability", probability);
      for (const [kind, text] of [["label", label], ["percent", percent(probability)]]) {
        const span = document.createElement("span");
        span.className = kind;
        span.textContent = text;
        row.append(span);
      }
      return row;
    }),
  );
}

function receive({ data }) {
  if ("loaded" in data) {
    progress.value = data.loaded;
  } else if ("model" in data) {
    const { size, labels } = data.model;
    about.textContent = `Tells ${labels.length} classes apart, at ${size} × ${size} pixels.`;
    progress.hidden = true;
    if (!shown) say("Ready for a picture.");
  } else if ("reason" in data) {
    cannotLoad(data.reason);
  } else if (data.id === shown) {
    if (data.error) say(`The picture cannot be classified (${data.error}).`, true);
    else show(data);
  }
}

for (const input of document.querySelectorAll("input")) {
  input.addEventListener("change", () => {
    if (input.files.length) classify(input.files[0]);
    input.value = ""; // so that the same file can be chosen again
  });
}

function take(transfer) {
  if (transfer.files.length) classify(transfer.files[0]);
  else say("That is no file; save the picture first, then choose it.", true);
}

document.addEventListener("paste", (event) => take(event.clipboardData));
document.addEventListener("dragover", (event) => {
  event.preventDefault(); // or the browser would open the picture itself
  drop.classList.add("over");
});
document.addEventListener("dragleave", () => drop.classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  take(event.dataTransfer);
});

try {
  worker = new Worker("classifier.js", { type: "module" });
  worker.onmessage = receive;
  worker.onerror = (event) => cannotLoad(event.message || "classifier.js does not start");
} catch (error) {
  cannotLoad(error.message);
}
