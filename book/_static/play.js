// Figures to play with: a slider moves, the numbers are computed here, in the page.
// Each has the same formulas as the notebook beside it; tests compare the two.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const draw = (parent, name, attributes, text) => {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return parent.appendChild(made);
  };
  const add = (parent, name, properties = {}) =>
    parent.appendChild(Object.assign(document.createElement(name), properties));
  const sum = values => values.reduce((a, b) => a + b, 0);
  const show = (number, digits = 3) => number.toFixed(digits).replace("-", "−");

  // A stage: controls on top, a picture, and what it says in numbers.
  function stage(figure, width, height) {
    const controls = figure.insertBefore(document.createElement("div"), figure.firstChild);
    controls.className = "play-controls";
    const picture = draw(figure, "svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
    const says = figure.appendChild(document.createElement("p"));
    says.setAttribute("role", "status");
    figure.append(figure.querySelector("figcaption"));
    const inputs = {};
    return {
      picture, says, inputs,
      slider(name, label, min, max, step, value, shown = String) {
        const line = add(controls, "label", { textContent: `${label} ` });
        const input = add(line, "input", { type: "range", min, max, step, value, name });
        const output = add(line, "output");
        const update = () => { output.textContent = shown(input.valueAsNumber); };
        input.addEventListener("input", update);
        update();
        inputs[name] = () => input.valueAsNumber;
      },
      choice(name, label) {
        const line = add(controls, "label");
        const input = add(line, "input", { type: "checkbox", name });
        line.append(` ${label}`);
        inputs[name] = () => input.checked;
      },
      run(update) {
        const redraw = () => { picture.replaceChildren(); update(); };
        controls.addEventListener("input", redraw);
        redraw();
      },
    };
  }

  // Random numbers from a seed (mulberry32), the same in every browser.
  function random(seed) {
    let state = seed;
    const uniform = () => {
      state = (state + 0x6D2B79F5) | 0;
      let t = Math.imul(state ^ (state >>> 15), 1 | state);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
    };
    const normal = () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
    const shuffle = values => {
      for (let k = values.length - 1; k > 0; k--) {
        const other = Math.floor(uniform() * (k + 1));
        [values[k], values[other]] = [values[other], values[k]];
      }
      return values;
    };
    // Marsaglia and Tsang (2000); below 1 by a power of a uniform number.
    const gamma = shape => {
      if (shape < 1) return gamma(shape + 1) * (1 - uniform()) ** (1 / shape);
      const d = shape - 1 / 3, c = 1 / Math.sqrt(9 * d);
      for (;;) {
        const x = normal(), v = (1 + c * x) ** 3;
        if (v > 0 && Math.log(1 - uniform()) < x * x / 2 + d - d * v + d * Math.log(v)) return d * v;
      }
    };
    const dirichlet = (size, shape) => {
      const values = Array.from({ length: size }, () => Math.max(gamma(shape), 1e-12));
      const total = sum(values);
      return values.map(value => value / total);
    };
    return { uniform, shuffle, dirichlet };
  }

  // --- SimCLR: the choice of the partner among all other views ---------------------------------
  function ntXent(figure) {
    const page = stage(figure, 330, 300), N = 4;
    page.slider("temperature", "temperature τ", -3, 1, 0.05, -1.5, v => show(Math.exp(v), 3));
    page.slider("alike", "how alike two views are", 0, 1, 0.05, 0.8, v => show(v, 2));
    page.run(() => {
      const tau = Math.exp(page.inputs.temperature()), alike = page.inputs.alike();
      const z = [];
      for (let view = 0; view < 2; view++) {
        for (let n = 0; n < N; n++) {
          const t = Array.from({ length: 6 }, (_, k) => 6 * n + k);
          const vector = t.map(x => view ? alike * Math.sin(x) + (1 - alike) * Math.cos(0.7 * x) : Math.sin(x));
          const length = Math.hypot(...vector);
          z.push(vector.map(x => x / length));
        }
      }
      let loss = 0;
      const size = 32, left = 60, top = 30;
      z.forEach((a, i) => {
        const logits = z.map((b, j) => (i === j ? -Infinity : sum(a.map((x, k) => x * b[k])) / tau));
        const most = Math.max(...logits), parts = logits.map(x => Math.exp(x - most));
        const total = sum(parts), partner = (i + N) % (2 * N);
        loss -= (logits[partner] - most - Math.log(total)) / (2 * N);
        const name = j => `${j % N + 1}${j < N ? "a" : "b"}`;
        draw(page.picture, "text", { x: left - 8, y: top + size * i + 21, "text-anchor": "end" }, name(i));
        draw(page.picture, "text", { x: left + size * i + size / 2, y: top - 8, "text-anchor": "middle" }, name(i));
        parts.forEach((part, j) => {
          draw(page.picture, "rect", {
            x: left + size * j, y: top + size * i, width: size - 2, height: size - 2,
            class: j === partner ? "cell partner" : "cell", "fill-opacity": i === j ? 0 : part / total,
          });
        });
      });
      page.says.textContent =
        `Loss ${show(loss, 4)} nats; a guess among ${2 * N - 1} views costs ${show(Math.log(2 * N - 1), 4)}.`;
      page.picture.setAttribute("aria-label",
        "Eight by eight cells: with which probability each view picks each other one; partners are outlined");
    });
  }

  // --- RS2: which examples come in which round -------------------------------------------------
  function rs2(figure) {
    const N = 60, page = stage(figure, 640, 250);
    page.slider("ratio", "ratio r", 2, 60, 1, 10, v => `${v} %`);
    page.slider("rounds", "rounds T", 1, 40, 1, 20);
    page.slider("seed", "draw", 1, 20, 1, 1);
    page.choice("again", "with replacement between rounds");
    page.run(() => {
      const { ratio, rounds, seed, again } = page.inputs;
      const m = Math.round(ratio() * N / 100), T = rounds(), draws = random(seed());
      const fresh = () => draws.shuffle(Array.from({ length: N }, (_, k) => k));
      const visits = Array(N).fill(0), wide = Math.min(40, 600 / T);
      let queue = [];
      for (let t = 0; t < T; t++) {
        if (again()) queue = fresh();
        else if (queue.length < m) {  // those that wait come first, and last in the new order
          const waits = new Set(queue), order = fresh();
          queue = [...queue, ...order.filter(k => !waits.has(k)), ...order.filter(k => waits.has(k))];
        }
        for (const k of queue.splice(0, m)) {
          visits[k] += 1;
          draw(page.picture, "rect", {
            x: 40 + wide * t, y: 10 + 3.9 * k, width: wide - 2, height: 3.2, class: "cell",
          });
        }
      }
      draw(page.picture, "text", { x: 0, y: 20 }, "1");
      draw(page.picture, "text", { x: 0, y: 244 }, `${N}`);
      const seen = visits.filter(Boolean).length / N;
      const expected = again() ? 1 - (1 - m / N) ** T : Math.min(1, m * T / N);
      page.says.textContent =
        `${m} of ${N} examples in a round. Seen at least once: ${show(100 * seen, 2)} %, expected ` +
        `${show(100 * expected, 2)} %. Visits of an example: ${Math.min(...visits)} to ` +
        `${Math.max(...visits)}; ${show(m * T / N, 2)} epochs.`;
      page.picture.setAttribute("aria-label",
        `Examples from top to bottom, rounds from left to right; a mark where an example is in the subset of a round`);
    });
  }

  // --- LLS: classes are corners ----------------------------------------------------------------
  function lls(figure) {
    const page = stage(figure, 400, 330), K = 3;
    page.slider("alpha", "concentration α (small: strong shift)", -2.5, 1.2, 0.1, 0, v => show(Math.exp(v), 2));
    page.slider("unsure", "how much classes overlap", 0, 1, 0.05, 0.2, v => show(v, 2));
    page.slider("seed", "draw", 1, 20, 1, 3);
    page.run(() => {
      const draws = random(page.inputs.seed());
      const alpha = Math.exp(page.inputs.alpha()), overlap = page.inputs.unsure();
      const domains = Array.from({ length: K }, () => draws.dirichlet(K, alpha / K));  // q(y|d)
      const corners = Array.from({ length: K }, (_, y) => {  // q(d|y), domains of equal size
        const total = sum(domains.map(q => q[y]));
        return domains.map(q => q[y] / total);
      });
      const points = Array.from({ length: 120 }, (_, n) => {
        const unsure = overlap * draws.uniform(), spread = draws.dirichlet(K, 1);
        const q = spread.map((x, y) => unsure * x + (1 - unsure) * (y === n % K));  // q(y|x)
        return corners[0].map((_, d) => sum(q.map((share, y) => share * corners[y][d])));
      });
      const found = successiveProjection(points, K);
      const place = p => [30 + 340 * (p[1] + p[2] / 2), 310 - 290 * p[2]];
      const outline = [[1, 0, 0], [0, 1, 0], [0, 0, 1]].map(place).join(" ");
      draw(page.picture, "polygon", { points: outline, class: "outline" });
      draw(page.picture, "polygon", { points: corners.map(place).join(" "), class: "outline inner" });
      for (const p of points) {
        const [cx, cy] = place(p);
        draw(page.picture, "circle", { cx, cy, r: 2.5, class: "point" });
      }
      for (const k of found) {
        const [cx, cy] = place(points[k]);
        draw(page.picture, "circle", { cx, cy, r: 8, class: "ring" });
      }
      for (const corner of corners) {
        const [x, y] = place(corner);
        draw(page.picture, "path", { d: `M${x - 5} ${y - 5}l10 10m0 -10l-10 10`, class: "cross" });
      }
      const off = corners.map(c => Math.min(...found.map(k => Math.hypot(...c.map((x, d) => x - points[k][d])))));
      figure.dataset.points = JSON.stringify(points);
      figure.dataset.found = JSON.stringify(found);
      page.says.textContent = found.length < K
        ? `The corners lie on a line: only ${found.length} can be found.`
        : `Rings: corners that SPA finds. Crosses: the classes. Largest distance ${show(Math.max(...off), 4)}.`;
      page.picture.setAttribute("aria-label",
        "A triangle of three domains with a smaller one of three classes inside; points of examples, rings at the corners found");
    });
  }

  function successiveProjection(points, numCorners) {
    const rest = points.map(p => [...p]), corners = [];
    for (let k = 0; k < numCorners; k++) {
      const lengths = rest.map(p => Math.hypot(...p));
      const corner = lengths.indexOf(Math.max(...lengths));
      if (lengths[corner] < 1e-10) break;
      corners.push(corner);
      const direction = rest[corner].map(x => x / lengths[corner]);
      for (const p of rest) {
        const along = sum(p.map((x, d) => x * direction[d]));
        p.forEach((x, d) => { p[d] = x - along * direction[d]; });
      }
    }
    return corners;
  }

  // --- Verdicts with a margin and a confidence of one's own --------------------------------------
  function logGamma(x) {  // Lanczos, g = 7
    const c = [0.99999999999980993, 676.5203681218851, -1259.1392167224028, 771.32342877765313,
      -176.61502916214059, 12.507343278686905, -0.13857109526572012, 9.9843695780195716e-6,
      1.5056327351493116e-7];
    if (x < 0.5) return Math.log(Math.PI / Math.sin(Math.PI * x)) - logGamma(1 - x);
    let a = c[0];
    for (let k = 1; k < 9; k++) a += c[k] / (x - 1 + k);
    const t = x + 6.5;
    return 0.5 * Math.log(2 * Math.PI) + (x - 0.5) * Math.log(t) - t + Math.log(a);
  }

  // Regularised incomplete beta function by its continued fraction (Lentz).
  function beta(x, a, b) {
    if (x <= 0 || x >= 1) return x <= 0 ? 0 : 1;
    if (x > (a + 1) / (a + b + 2)) return 1 - beta(1 - x, b, a);
    const tiny = 1e-300;
    let c = 1, d = 1 / Math.max(1 - (a + b) * x / (a + 1), tiny), h = d;
    for (let m = 1; m < 300; m++) {
      for (const term of [m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
        -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))]) {
        d = 1 / (1 + term * d || tiny);
        c = 1 + term / c || tiny;
        h *= c * d;
      }
      if (Math.abs(c * d - 1) < 1e-14) break;
    }
    const front = logGamma(a + b) - logGamma(a) - logGamma(b) + a * Math.log(x) + b * Math.log(1 - x);
    return Math.exp(front) * h / a;
  }

  const above = (t, df) => { const tail = beta(df / (df + t * t), df / 2, 0.5) / 2; return t > 0 ? tail : 1 - tail; };
  function quantile(p, df) {
    let low = 0, high = 1e4;
    for (let k = 0; k < 200; k++) {
      const middle = (low + high) / 2;
      if (1 - above(middle, df) < p) low = middle; else high = middle;
    }
    return low;
  }

  function margin(figure) {
    const claims = JSON.parse(figure.querySelector("script").textContent);
    const page = stage(figure, 1, 1);
    page.picture.remove();
    page.slider("margin", "margin", 0, 5, 0.25, 0, v => `${show(v, 2)} points`);
    page.slider("confidence", "confidence", 80, 99.5, 0.5, 95, v => `${v} %`);
    const table = figure.insertBefore(document.createElement("table"), page.says.nextSibling);
    table.className = "table";
    page.run(() => {
      const wanted = page.inputs.margin(), level = 1 - page.inputs.confidence() / 100;
      const counts = { "reproduced": 0, "not reproduced": 0, "inconclusive": 0 };
      table.replaceChildren(...claims.map(({ statement, sign, differences }) => {
        const n = differences.length, mean = sum(differences) / n;
        const error = Math.sqrt(sum(differences.map(d => (d - mean) ** 2)) / (n - 1) / n);
        const reach = error * quantile(1 - level / 2, n - 1);
        const side = t => (error ? above(t, n - 1) : +(t <= 0));  // beyond the margin on its side?
        const t = (sign * mean - wanted) / (error || 1);
        const p = Math.min(1, 2 * side(t), 2 * side(-t));
        const verdict = p >= level ? "inconclusive" : t > 0 ? "reproduced" : "not reproduced";
        counts[verdict] += 1;
        const row = document.createElement("tr");
        add(row, "td", { textContent: statement });
        add(row, "td", { textContent: `${show(mean)} [${show(mean - reach)}, ${show(mean + reach)}]`, className: "number" });
        add(row, "td", { textContent: verdict, className: `verdict-${verdict.replace(" ", "-")}` });
        return row;
      }));
      page.says.textContent = Object.entries(counts).map(([name, count]) => `${count} ${name}`).join(", ") +
        ", each claim alone (without the correction for their number).";
    });
  }

  // --- FixMatch: how many images pass the threshold, and how many of them are right ------------
  function fixmatch(figure) {
    const moments = JSON.parse(figure.querySelector("script").textContent);
    const [early, late] = moments, bins = late.right.length;
    const page = stage(figure, 420, 250);
    page.slider("threshold", "threshold τ", 0.1, 0.995, 1 / bins, 0.95, v => show(v, 3));
    page.choice("early", `early, after ${early.step} steps (else after ${late.step})`);
    page.run(() => {
      const { right, wrong } = page.inputs.early() ? early : late;
      const all = sum(right) + sum(wrong), first = Math.round(bins * page.inputs.threshold());
      const from = k => [sum(right.slice(k)), sum(wrong.slice(k))];
      const place = (k, share) => [40 + 270 * (k / bins - 0.1) / 0.9, 215 - 200 * share];
      const lines = { coverage: [], purity: [] };
      for (let k = Math.round(0.1 * bins); k < bins; k++) {
        const [good, bad] = from(k);
        lines.coverage.push(place(k, (good + bad) / all));
        if (good + bad) lines.purity.push(place(k, good / (good + bad)));
      }
      const [x] = place(first, 0);
      draw(page.picture, "path", { d: "M40 15V215H310", class: "outline" });
      draw(page.picture, "path", { d: `M${x} 15V215`, class: "outline inner" });
      for (const [name, points] of Object.entries(lines)) {
        const [endX, endY] = points.at(-1);
        draw(page.picture, "polyline", { points: points.join(" "), class: `curve ${name}` });
        draw(page.picture, "text", { x: endX + 6, y: endY + 4 }, name);
      }
      for (const share of [0, 0.5, 1])
        draw(page.picture, "text", { x: 34, y: 219 - 200 * share, "text-anchor": "end" }, `${100 * share} %`);
      for (const t of [0.1, 0.5, 1])
        draw(page.picture, "text", { x: place(t * bins, 0)[0], y: 232, "text-anchor": "middle" }, `${t}`);
      draw(page.picture, "text", { x: 175, y: 246, "text-anchor": "middle" }, "threshold");
      const [good, bad] = from(first);
      page.says.textContent = `Coverage ${show(100 * (good + bad) / all, 2)} %: ${good + bad} of ${all} images ` +
        `pass. ` + (good + bad ? `Purity ${show(100 * good / (good + bad), 2)} %: ${good} of these are right, ` +
        `${show(100 * good / all, 2)} % of all.` : "None of them can be right.");
      page.picture.setAttribute("aria-label",
        "Two curves over the threshold: coverage falls, purity rises; a line at the threshold chosen");
    });
  }

  // --- CLIP: words find emoji -------------------------------------------------------------------
  // The text tower of labutils/clip_emoji.py, from bytes to a vector of length one.
  function textTower({ arrays, data }) {
    const bytes = Uint8Array.from(atob(data), letter => letter.charCodeAt(0));
    const numbers = new DataView(bytes.buffer), model = {};
    const half = at => {
      const bits = numbers.getUint16(at, true), power = (bits >> 10) & 31, rest = bits & 1023;
      return (bits >> 15 ? -1 : 1) * (power ? 2 ** (power - 25) * (1024 + rest) : 2 ** -24 * rest);
    };
    let at = 0;
    for (const [name, ...shape] of arrays) {
      const read = name === "merges" ? k => numbers.getInt16(k, true) : half;
      model[name] = Float32Array.from({ length: shape.reduce((a, b) => a * b) }, (_, k) => read(at + 2 * k));
      at += 2 * model[name].length;
    }
    const visible = byte => (byte > 32 && byte < 127) || (byte > 160 && byte < 256 && byte !== 173);
    const every = Array.from({ length: 256 }, (_, byte) => byte);
    const symbols = [...every.filter(visible), ...every.filter(byte => !visible(byte))];
    const rank = new Map();  // of a pair of symbols
    for (let k = 0; k < model.merges.length; k += 2) rank.set(`${model.merges[k]} ${model.merges[k + 1]}`, k / 2);
    const START = 512 + rank.size, CONTEXT = 16, WIDTH = 128, HEADS = 4, EACH = WIDTH / HEADS;
    const WORD = /'(?:s|t|re|ve|m|ll|d)|[\p{L}\p{Nl}\p{No}]+|\p{Nd}|[^\p{L}\p{N}\s]+/gu;

    function bytePairs(word) {
      const symbol = [...new TextEncoder().encode(word)].map(byte => symbols.indexOf(byte));
      symbol.push(symbol.pop() + 256);  // marks the end of the word
      for (;;) {
        const ranks = symbol.slice(1).map((b, k) => rank.get(`${symbol[k]} ${b}`) ?? Infinity);
        const first = Math.min(...ranks);
        if (first === Infinity) return symbol;
        for (let k = 0; k + 1 < symbol.length; k++)
          if (rank.get(`${symbol[k]} ${symbol[k + 1]}`) === first) symbol.splice(k, 2, 512 + first);
      }
    }
    function tokens(text) {
      const plain = t => new DOMParser().parseFromString(t.replace(/</g, "&lt;"), "text/html").body.textContent;
      const words = plain(plain(text)).replace(/[‘’]/g, "'").replace(/[“”]/g, '"').toLowerCase().match(WORD) ?? [];
      return [START, ...words.flatMap(bytePairs).slice(0, CONTEXT - 2)];  // the end is not looked at
    }
    function linear(x, name, outputs, weight = "weight") {
      const w = model[`${name}${weight}`], b = model[`${name}${weight.replace("weight", "bias")}`];
      return Float32Array.from({ length: outputs }, (_, o) => {
        let total = b ? b[o] : 0;
        for (let k = 0; k < x.length; k++) total += w[o * x.length + k] * x[k];
        return total;
      });
    }
    function layerNorm(x, name) {
      const mean = sum(x) / x.length, spread = Math.sqrt(sum(x.map(v => (v - mean) ** 2)) / x.length + 1e-5);
      return x.map((v, k) => (v - mean) / spread * model[`${name}.weight`][k] + model[`${name}.bias`][k]);
    }
    const gelu = v => {  // error function: Abramowitz and Stegun, 7.1.26
      const z = Math.abs(v) / Math.SQRT2, t = 1 / (1 + 0.3275911 * z);
      const tail = t * Math.exp(-z * z) *
        (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
      return v * (v > 0 ? 1 - tail / 2 : tail / 2);
    };
    function encode(text) {
      let x = tokens(text).map(n => model["token_embedding.weight"].slice(n * WIDTH, (n + 1) * WIDTH));
      const parts = x.map(v => linear(layerNorm(v, "block.norm1"), "block.self_attn.", 3 * WIDTH, "in_proj_weight"));
      x = x.map((v, i) => {
        const seen = new Float32Array(WIDTH);
        for (let head = 0; head < HEADS; head++) {
          const at = head * EACH;
          const scores = parts.map(other => {
            let score = 0;
            for (let k = at; k < at + EACH; k++) score += parts[i][k] * other[WIDTH + k];
            return Math.exp(score / Math.sqrt(EACH));
          });
          const total = sum(scores);
          parts.forEach((other, j) => {
            for (let k = at; k < at + EACH; k++) seen[k] += scores[j] / total * other[2 * WIDTH + k];
          });
        }
        const told = linear(seen, "block.self_attn.out_proj.", WIDTH);
        return v.map((value, k) => value + told[k]);
      }).map(v => {
        const wide = linear(layerNorm(v, "block.norm2"), "block.linear1.", 4 * WIDTH).map(gelu);
        const told = linear(wide, "block.linear2.", WIDTH);
        return v.map((value, k) => value + told[k]);
      });
      const out = linear(x[0].map((_, k) => sum(x.map(v => v[k])) / x.length), "text_proj.", WIDTH);
      const length = Math.hypot(...out);
      return out.map(value => value / length);
    }
    const scores = text => {
      const v = encode(text), u = model.pictures;
      return Array.from({ length: u.length / WIDTH }, (_, n) => sum(v.map((value, k) => value * u[n * WIDTH + k])));
    };
    return { tokens, encode, scores };
  }

  function emoji(figure) {
    const folder = figure.dataset.static, count = 12;
    const button = figure.insertBefore(document.createElement("button"), figure.firstChild);
    button.textContent = "Load the network and its pictures (3 MB)";
    button.addEventListener("click", () => {
      button.disabled = true;
      const script = document.createElement("script");
      script.src = `${folder}emoji-search.js`;
      script.addEventListener("load", begin);
      script.addEventListener("error", () => {
        script.remove();
        button.disabled = false;
        button.textContent = "It could not be loaded. Try again";
      });
      document.head.append(script);
    });
    function begin() {
      const { names, seen, columns, ...stored } = window.emojiSearch, tower = textTower(stored);
      const form = document.createElement("div");
      form.className = "play-controls";
      const line = add(form, "label", { textContent: "Words " });
      const words = add(line, "input", { type: "search", name: "words", value: "music instrument", autocomplete: "off" });
      const found = document.createElement("ol"), says = document.createElement("p");
      found.className = "found-emoji";
      says.setAttribute("role", "status");
      button.replaceWith(form, found, says);
      const search = () => {
        if (!words.value.trim()) {
          found.replaceChildren();
          says.textContent = "Type what you look for, in English.";
          return;
        }
        const scores = tower.scores(words.value);
        const best = scores.map((_, n) => n).sort((a, b) => scores[b] - scores[a]).slice(0, count);
        found.replaceChildren(...best.map(n => {
          const item = document.createElement("li"), picture = add(item, "span", { className: "picture" });
          picture.style.backgroundImage = `url("${folder}emoji-search.webp")`;
          picture.style.backgroundSize = `${100 * columns}%`;
          const down = Math.ceil(names.length / columns) - 1;
          picture.style.backgroundPosition =
            `${100 * (n % columns) / (columns - 1)}% ${100 * Math.floor(n / columns) / down}%`;
          item.classList.toggle("never-seen", !seen[n]);
          add(item, "span", { textContent: names[n] + (seen[n] ? "" : " *") });
          add(item, "span", { textContent: show(scores[n], 4), className: "number" });
          return item;
        }));
        says.textContent = `The ${count} nearest of ${names.length} pictures, with their cosines. ` +
          (best.every(n => seen[n]) ? "" : "* No picture of this meaning was in training.");
      };
      words.addEventListener("input", search);
      search();
      words.focus();
    }
  }

  const kinds = { "nt-xent": ntXent, rs2, lls, fixmatch, emoji, margin };
  for (const figure of document.querySelectorAll("figure.play:not(.taken)")) {
    figure.classList.add("taken");  // a page with two figures runs this script twice
    const begin = () => kinds[figure.dataset.play](figure);
    const folded = figure.closest("details");
    if (folded && !folded.open) folded.addEventListener("toggle", begin, { once: true });
    else begin();
  }
})();
