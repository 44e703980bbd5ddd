"use strict";
// Root-placed BELM on a grid, in plain numbers: the formulas of vsvf.formulas.root_placed, vsvf.stability.growth and
// vsvf.stability.gaussian once more, so that the page can follow its controls. tests/analysis/test_explore.py holds them together.
const rootPlaced = (() => {
  const inner = Math.sqrt(3 / 7 - (2 / 7) * Math.sqrt(6 / 5)), outer = Math.sqrt(3 / 7 + (2 / 7) * Math.sqrt(6 / 5));
  const heavy = (18 + Math.sqrt(30)) / 36, light = (18 - Math.sqrt(30)) / 36;
  const GAUSS = [[-outer, light], [-inner, heavy], [inner, heavy], [outer, light]]; // exact to degree 7

  const sum = (values) => values.reduce((total, value) => total + value, 0);

  /** Roots as [re, im]: a pair at +- each angle (in units of pi), one real root for angle 1. */
  function roots(angles, modulus) {
    return angles.flatMap((angle) => {
      if (angle === 1) return [[-modulus, 0]];
      const [re, im] = [modulus * Math.cos(Math.PI * angle), modulus * Math.sin(Math.PI * angle)];
      return [[re, im], [re, -im]];
    });
  }

  /** B_2 ... B_k with prod_r (z - zeta_r) = z^{k-1} - sum_j B_j z^{k-j}. */
  function recursion(angles, modulus) {
    let polynomial = [1];
    for (const angle of angles) {
      const factor = angle === 1 ? [1, modulus] : [1, -2 * modulus * Math.cos(Math.PI * angle), modulus * modulus];
      const product = new Array(polynomial.length + factor.length - 1).fill(0);
      polynomial.forEach((p, i) => factor.forEach((f, j) => { product[i + j] += p * f; }));
      polynomial = product;
    }
    return polynomial.slice(1).map((p) => -p);
  }

  /** upper^{1/rho} - lower^{1/rho} without cancellation. */
  function rise(lower, upper, rho) {
    return rho === 1 ? upper - lower : -(upper ** (1 / rho)) * Math.expm1(Math.log1p(-(upper - lower) / upper) / rho);
  }

  /** int l_m(u) ds for every m, from u = start to stop, ds = rho (u + first)^{rho-1} du. */
  function integrals(nodes, start, stop, first, rho) {
    const half = (stop - start) / 2, middle = (stop + start) / 2, found = new Array(nodes.length).fill(0);
    for (const [point, weight] of GAUSS) {
      const u = middle + half * point, density = half * weight * rho * (u + first) ** (rho - 1);
      nodes.forEach((own, m) => {
        let value = density;
        nodes.forEach((other, n) => { if (n !== m) value *= (u - other) / (own - other); });
        found[m] += value;
      });
    }
    return found;
  }

  /** The weights of the states (k) and of the slopes (k + 1) on a window s_0 < ... < s_k, s_0 new. */
  function row(s, B, exponent, modeRho, slopeRho) {
    const k = s.length - 1, d = [];
    for (let j = 1; j <= k; j++) d.push(rise(s[j - 1], s[j], modeRho));
    const A = B.map((b, j) => b * (d[0] / d[j + 1]) ** exponent);
    const a = new Array(k).fill(0), c = new Array(k + 1).fill(0);
    a[0] = 1;
    A.forEach((weight, j) => { a[j] += weight; a[j + 1] -= weight; });
    const u = [-rise(s[0], s[1], slopeRho), 0]; // u - u(s_1)
    for (let j = 2; j <= k; j++) u.push(u[j - 1] + rise(s[j - 1], s[j], slopeRho));
    const first = s[1] ** (1 / slopeRho), inside = u.slice(1, k);
    integrals(inside, u[1], u[0], first, slopeRho).forEach((value, m) => { c[m + 1] += value; });
    A.forEach((weight, j) => {
      integrals(inside, u[j + 2], u[j + 1], first, slopeRho).forEach((value, m) => { c[m + 1] -= weight * value; });
    });
    return { a, c };
  }

  /** The rows of a march from the largest node to the smallest, with the node of every state. */
  function sampling(nodes, { angles, modulus, exponent, modeRho, slopeRho }) {
    const B = recursion(angles, modulus), k = B.length + 1, rows = [];
    for (let n = nodes.length - 1 - k; n >= 0; n--) rows.push(row(nodes.slice(n, n + k + 1), B, exponent, modeRho, slopeRho));
    return { k, rows, nodes: [...nodes].reverse() };
  }

  /** The same relations solved for their oldest state. */
  function inverse({ k, rows, nodes }) {
    const turned = rows.map(({ a, c }) => {
      const oldest = a[k - 1];
      return { a: [...a.slice(0, k - 1).reverse().map((w) => -w / oldest), 1 / oldest], c: [...c].reverse().map((w) => -w / oldest) };
    });
    return { k, rows: turned.reverse(), nodes: [...nodes].reverse() };
  }

  /** K: the largest row sum of |weights| that any product of companion matrices has, at least 1. */
  function amplification({ k, rows }) {
    let largest = 1;
    for (let start = 0; start < rows.length; start++) {
      let window = Array.from({ length: k }, (_, i) => Array.from({ length: k }, (_, j) => (i === j ? 1 : 0)));
      for (let m = start; m < rows.length; m++) {
        const a = rows[m].a;
        const made = window[0].map((_, i) => sum(window.map((state, j) => a[j] * state[i])));
        largest = Math.max(largest, sum(made.map(Math.abs)));
        window = [made, ...window.slice(0, k - 1)];
      }
    }
    return largest;
  }

  /** E = sum |phi tau| and max |phi| on Gaussian data of this standard deviation, marched from exact states. */
  function gaussian({ k, rows, nodes }, std) {
    const exact = nodes.map((s) => Math.sqrt(std * std + s * s)), slope = nodes.map((s) => s / (std * std + s * s));
    const phi = new Array(nodes.length).fill(0);
    phi[nodes.length - 1] = 1;
    const felt = rows.map(({ a, c }, m) => a.map((w, j) => w + c[j + 1] * slope[m + k - 1 - j]));
    for (let m = rows.length - 1; m >= 0; m--) felt[m].forEach((w, j) => { phi[m + k - 1 - j] += w * phi[m + k]; });
    let error = 0, reaction = 0;
    felt.forEach((row, m) => {
      const tau = exact[m + k] - sum(row.map((w, j) => w * exact[m + k - 1 - j]));
      error += Math.abs(phi[m + k] * tau);
      reaction = Math.max(reaction, Math.abs(phi[m + k]));
    });
    return { error, reaction };
  }

  /** K, the root mean square of E over the standard deviations, and the largest reaction, in both directions. */
  function study(nodes, settings, stds) {
    const down = sampling(nodes, settings), found = {};
    for (const [direction, march] of [["sampling", down], ["inversion", inverse(down)]]) {
      const each = stds.map((std) => gaussian(march, std));
      found[direction] = {
        K: amplification(march),
        E: Math.sqrt(sum(each.map(({ error }) => error * error)) / stds.length),
        reaction: Math.max(...each.map(({ reaction }) => reaction)),
      };
    }
    return found;
  }

  return { roots, study };
})();
