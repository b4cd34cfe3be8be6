const part = id => document.getElementById(id);
const about = JSON.parse(part("about").textContent);
const bytes = id => Uint8Array.from(atob(part(id).textContent), c => c.charCodeAt(0));
const { images, config } = about;
const size = images.crop_size;
const channels = config.num_channels;

const address = (id, type) => URL.createObjectURL(new Blob([bytes(id)], { type }));
const ort = await import(address("ort", "text/javascript"));
ort.env.wasm.wasmPaths = {
  mjs: address("glue", "text/javascript"),
  wasm: address("wasm", "application/wasm"),
};
// Browsers do not tell which processor there is, which the runtime warns of.
ort.env.logLevel = "error";
ort.env.wasm.numThreads = 1;

const models = [];
for (const [id, name] of [["dense", "Dense"], ["compact", "Compact"]]) {
  models.push({ id, name, session: await ort.InferenceSession.create(bytes(id)) });
}

const canvas = part("image");
const pen = canvas.getContext("2d", { willReadFrequently: true });
const clear = () => {
  pen.fillStyle = "#000";
  pen.fillRect(0, 0, canvas.width, canvas.height);
};

/** The image at the models' size, prepared as the configuration says: resized, cut, normalised. */
function prepare(source, width, height) {
  const small = new OffscreenCanvas(size.width, size.height);
  const context = small.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  let [w, h] = [images.size.width, images.size.height];
  if (images.size.shortest_edge) {
    const scale = images.size.shortest_edge / Math.min(width, height);
    [w, h] = [width * scale, height * scale];
  }
  context.imageSmoothingEnabled = w !== width || h !== height;
  context.drawImage(source, (size.width - w) / 2, (size.height - h) / 2, w, h);
  const pixels = context.getImageData(0, 0, size.width, size.height).data;
  const count = size.width * size.height;
  const out = new Float32Array(channels * count);
  for (let i = 0; i < count; i++) {
    const [r, g, b] = pixels.slice(4 * i, 4 * i + 3);
    const values = channels === 1 ? [0.299 * r + 0.587 * g + 0.114 * b] : [r, g, b];
    values.forEach((value, c) => {
      out[c * count + i] = (value * images.rescale_factor - images.image_mean[c]) / images.image_std[c];
    });
  }
  return new ort.Tensor("float32", out, [1, channels, size.height, size.width]);
}

function softmax(logits) {
  const top = Math.max(...logits);
  const parts = Array.from(logits, x => Math.exp(x - top));
  const sum = parts.reduce((a, b) => a + b, 0);
  return parts.map(x => x / sum);
}

/** Milliseconds of one of the faster of some passes, in turn with the other model. */
async function classify(pixel_values) {
  const results = models.map(() => ({ times: [] }));
  for (let round = 0; round < 11; round++) {
    for (const [i, model] of models.entries()) {
      const began = performance.now();
      const { logits } = await model.session.run({ pixel_values });
      results[i].times.push(performance.now() - began);
      results[i].logits = Array.from(logits.data);
    }
  }
  return results.map(({ times, logits }) => {
    times.sort((a, b) => a - b);
    return { milliseconds: times[Math.floor(times.length / 4)], probabilities: softmax(logits) };
  });
}

function element(name, attributes, ...children) {
  const made = Object.assign(document.createElement(name), attributes);
  made.append(...children);
  return made;
}

let asked = 0;
async function show(source, width, height) {
  const number = ++asked;
  const results = await classify(prepare(source, width, height));
  if (number !== asked) return;
  part("results").replaceChildren(...results.map((result, i) => {
    const ranked = result.probabilities.map((p, label) => [p, config.id2label[label]]);
    ranked.sort((a, b) => b[0] - a[0]);
    const rows = ranked.slice(0, 3).map(([p, label]) => element("div", { className: "row" },
      element("span", { title: label }, label),
      element("meter", { min: 0, max: 1, value: p, ariaLabel: label }),
      element("span", {}, `${(100 * p).toFixed(1)} %`)));
    const article = element("article", {}, element("h2", {}, models[i].name),
      element("p", { className: "time" }, `${result.milliseconds.toFixed(2)} ms an image`), ...rows);
    Object.assign(article.dataset, { label: ranked[0][1], probability: ranked[0][0] });
    return article;
  }));
  part("results").dataset.number = number;
}

async function take(address) {
  const image = new Image();
  image.src = address;
  try {
    await image.decode();
  } catch {
    part("hint").textContent = "This is not an image that the browser knows; try a PNG or a JPEG.";
    return;
  }
  clear();
  const { naturalWidth: w, naturalHeight: h } = image;
  const scale = Math.min(canvas.width / w, canvas.height / h);
  pen.imageSmoothingEnabled = scale < 1;
  pen.drawImage(image, (canvas.width - w * scale) / 2, (canvas.height - h * scale) / 2, w * scale, h * scale);
  await show(image, w, h);
}

for (const [i, address] of about.examples.entries()) {
  const button = element("button", { type: "button", onclick: () => take(address) },
    element("img", { src: address, alt: `Example ${i + 1}` }));
  part("examples").append(button);
}
const takeFile = file => file && take(URL.createObjectURL(file));
part("file").onchange = event => takeFile(event.target.files[0]);
canvas.ondragover = event => event.preventDefault();
canvas.ondrop = event => {
  event.preventDefault();
  takeFile(event.dataTransfer.files[0]);
};
part("clear").onclick = () => {
  clear();
  show(canvas, canvas.width, canvas.height);
};

let last = null;
const place = event => {
  const box = canvas.getBoundingClientRect();
  return [(event.clientX - box.left) * canvas.width / box.width, (event.clientY - box.top) * canvas.height / box.height];
};
canvas.onpointerdown = event => {
  canvas.setPointerCapture(event.pointerId);
  last = place(event);
};
canvas.onpointermove = event => {
  if (!last) return;
  const to = place(event);
  Object.assign(pen, { lineWidth: 22, lineCap: "round", strokeStyle: "#fff" });
  pen.beginPath();
  pen.moveTo(...last);
  pen.lineTo(...to);
  pen.stroke();
  last = to;
};
canvas.onpointerup = () => {
  last = null;
  show(canvas, canvas.width, canvas.height);
};

clear();
if (about.examples.length) await take(about.examples[0]);
document.documentElement.dataset.ready = "yes";
