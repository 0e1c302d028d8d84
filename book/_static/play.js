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

  const kinds = { "nt-xent": ntXent, rs2, lls, margin };
  for (const figure of document.querySelectorAll("figure.play:not(.taken)")) {
    figure.classList.add("taken");  // a page with two figures runs this script twice
    const begin = () => kinds[figure.dataset.play](figure);
    const folded = figure.closest("details");
    if (folded && !folded.open) folded.addEventListener("toggle", begin, { once: true });
    else begin();
  }
})();
