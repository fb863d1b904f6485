/**
 * The models of LM Studio: which there are, which are loaded, which is active.
 */

import { ApiError, get, post } from './api.js';
import { button, h, keepingFocus, replace, setText } from './dom.js';
import { FieldSet, INFERENCE_FIELDS, LOAD_FIELDS } from './fields.js';
import { count, duration, inline, size, tokens } from './format.js';
import { announce, badge, busy, confirmThen, failure, loading, named, notice, openDialog, progress, section, setProgress, table, when } from './parts.js';

const CHANGES = new Set(['model_load_complete', 'model_unload_complete', 'model_activate', 'model_deactivate', 'model_state', 'upstream_up', 'upstream_down']);
const SETTLE_MS = 250;

/** @type {import('./fields.js').Field[]} */
const ORDER_FIELDS = [
  { name: 'instanceId', label: 'Instance name', kind: 'text', hint: 'left empty: LM Studio names it' },
  { name: 'ttlSeconds', label: 'Unload when idle for', kind: 'integer', least: 1, hint: 'seconds; left empty: never' },
  { name: 'activate', label: 'Make it the active model', kind: 'check', usual: true, hint: 'requests that name no model go to it' },
];

const MANAGEMENT = {
  rest: 'by its REST API',
  sdk: 'by the protocol of its SDKs',
};

/** @param {HTMLElement} root @param {import('./page.js').Page} page */
export function mountModels(root, page) {
  const abort = new AbortController();
  const place = h('div', null, loading('the models'));
  const loads = h('div', null);
  const loadSection = section('Being loaded', loads);
  loadSection.hidden = true;
  replace(root, loadSection, place);

  const look = async () => {
    try {
      const [models, list] = await Promise.all([get('/admin/models', abort.signal), get('/v1/models', abort.signal).catch(() => null)]);
      if (!abort.signal.aborted) keepingFocus(place, () => drawAll(place, models, aliasesOf(list), look));
    } catch (error) {
      if (!abort.signal.aborted) replace(place, failure(error, () => void look()));
    }
  };
  let timer = 0;
  const stopListening = page.feed.listen((events) => {
    if (!events.some((each) => CHANGES.has(each.type))) return;
    clearTimeout(timer);
    timer = setTimeout(() => void look(), SETTLE_MS);
  });
  const rows = new Map();
  const drawLoads = () => showLoads(page.live, loadSection, loads, rows);
  const stopWatching = page.live.watch(drawLoads);
  const ticking = setInterval(drawLoads, 1000);
  drawLoads();
  void look();
  return () => {
    abort.abort();
    clearTimeout(timer);
    clearInterval(ticking);
    stopListening();
    stopWatching();
  };
}

function aliasesOf(list) {
  return (list?.data ?? []).filter((each) => each.owned_by === 'lmgateway');
}

function drawAll(place, models, aliases, again) {
  replace(
    place,
    models.stale && notice('note', 'LM Studio does not answer', h('span', null, 'This is what it had ', when(models.knownAt), '.')),
    models.management === 'gateway' && gatewayOnly(models.reason),
    h('div', { class: 'pair' }, h('div', null, activeSection(models, again), section('Loaded', loadedTable(models, again))), offered(models, again)),
    aliases.length > 0 && section('Aliases', h('p', { class: 'quiet' }, 'Names that the gateway adds; they are set in its configuration.'), h('ul', null, aliases.map((each) => h('li', null, h('strong', null, named(each.id)), each.root ? ` → ${each.root}` : '')))),
  );
}

/** What there is to be loaded, or, where only the names are told, what there is. */
function offered(models, again) {
  if (models.management === 'gateway') {
    return section('Models that LM Studio names', namedTable(models, again), h('p', { class: 'hint' }, 'With just-in-time loading it names all that are downloaded, else those that are loaded. It does not tell which are which.'));
  }
  return section('Downloaded', downloadedTable(models, again), h('p', { class: 'hint' }, `The gateway manages LM Studio's models ${MANAGEMENT[models.management] ?? models.management}.`));
}

function namedTable(models, again) {
  if (models.downloaded.length === 0) return notice('empty', 'No models', 'Load one in LM Studio.');
  const rows = models.downloaded.map((each) => {
    const isIt = models.active !== null && models.active.instanceId === null && models.active.modelKey === each.modelKey;
    const values = isIt ? models.active.defaultInference : {};
    return h(
      'tr',
      null,
      h('th', { scope: 'row' }, named(each.modelKey), ' ', isIt && badge('active', 'good')),
      h('td', null, button('Activate', () => openActivate(each.modelKey, null, values, again), { class: 'small', 'aria-label': `Activate ${each.modelKey}` })),
    );
  });
  return table('Names of models', ['Model', 'Action'], rows, { isSilent: true }).element;
}

function gatewayOnly(reason) {
  return notice(
    'note',
    'This LM Studio offers no model management',
    'So the gateway can neither load nor unload. What can be done:',
    h('ol', null, [
      'Load a model in LM Studio itself: in its window, or with "lms load".',
      'Or leave it to LM Studio, which loads a model at the first request if just-in-time loading is on.',
      'Activate it here: requests that name no model then go to it.',
    ].map((each) => h('li', null, each))),
    reason && h('details', null, h('summary', null, 'Why'), h('p', null, reason)),
  );
}

function activeSection(models, again) {
  const active = models.active;
  if (active === null) {
    return section('Active', notice('empty', 'No model is active', 'Requests must name a model. Activate one, and those that name none go to it.'));
  }
  const defaults = Object.entries(active.defaultInference ?? {});
  const trouble = h('div', null);
  const clear = button('Deactivate', () => void busy(clear, trouble, async () => {
    await post('/admin/models/deactivate');
    await again();
  }));
  return section(
    'Active',
    h('p', null, h('strong', null, named(active.instanceId ?? active.modelKey)), ' ', active.resident === false ? badge('not loaded now', 'warn') : active.resident ? badge('loaded', 'good') : null),
    defaults.length > 0
      ? h('dl', { class: 'pairs' }, defaults.map(([name, value]) => [h('dt', null, labelOf(INFERENCE_FIELDS, name)), h('dd', null, inline(value))]))
      : h('p', { class: 'quiet' }, 'No default parameters: requests go on as they come.'),
    h('div', { class: 'buttons' }, button('Change parameters', () => openActivate(active.modelKey, active.instanceId, active.defaultInference, again)), clear),
    trouble,
  );
}

const labelOf = (fields, name) => fields.find((each) => each.name === name)?.label ?? name;

function isActive(models, instance) {
  const active = models.active;
  return active !== null && (active.instanceId ?? active.modelKey) === instance.identifier;
}

function loadedTable(models, again) {
  if (models.loaded.length === 0 && models.management === 'gateway') return notice('empty', 'Not known', 'This LM Studio does not tell what it has loaded.');
  if (models.loaded.length === 0) return notice('empty', 'Nothing is loaded', 'Load one of those that are downloaded.');
  const rows = models.loaded.map((each) => {
    const trouble = h('div', null);
    const unload = button('Unload', () => askToUnload(each, again), { class: 'small danger', 'aria-label': `Unload ${each.identifier}` });
    return h(
      'tr',
      null,
      h('th', { scope: 'row' }, named(each.identifier), ' ', isActive(models, each) && badge('active', 'good')),
      h('td', null, each.type),
      h('td', { class: 'number' }, tokens(each.loadConfig?.contextLength)),
      h('td', null, configOf(each.loadConfig)),
      h('td', { class: 'number' }, each.ttlSeconds === null ? 'no' : duration(each.ttlSeconds * 1000)),
      h('td', null, h('div', { class: 'buttons' }, each.type !== 'embedding' && button('Activate', () => openActivate(each.modelKey, each.identifier, isActive(models, each) ? models.active.defaultInference : {}, again), { class: 'small', 'aria-label': `Activate ${each.identifier}` }), models.management !== 'gateway' && unload), trouble),
    );
  });
  return table('Instances in memory', ['Instance', 'Type', { text: 'Context', number: true }, 'Settings', { text: 'Idle limit', number: true }, 'Actions'], rows, { isSilent: true }).element;
}

function configOf(config) {
  const said = [];
  const walk = (values, above) => {
    for (const [name, value] of Object.entries(values ?? {})) {
      if (value !== null && typeof value === 'object') walk(value, `${above}${name}.`);
      else if (above + name !== 'contextLength') said.push(`${labelOf(LOAD_FIELDS, above + name)} ${value === true ? 'on' : value === false ? 'off' : inline(value)}`);
    }
  };
  walk(config, '');
  return h('span', { class: 'quiet' }, said.join(', ') || '–');
}

function downloadedTable(models, again) {
  if (models.downloaded.length === 0) return notice('empty', 'No models', 'Download one in LM Studio, or with "lms get".');
  const rows = models.downloaded.map((each) => {
    const isLoaded = models.loaded.some((one) => one.modelKey === each.modelKey);
    return h(
      'tr',
      null,
      h('th', { scope: 'row' }, named(each.modelKey), ' ', each.displayName && h('bdi', { class: 'quiet' }, each.displayName), ' ', isLoaded && badge('loaded', 'good')),
      h('td', null, each.type),
      h('td', { class: 'number' }, each.size > 0 ? size(each.size) : '–'),
      h('td', { class: 'tight' }, [each.paramsString, each.quantization?.name ?? null].filter(Boolean).join(', ') || '–'),
      h('td', { class: 'number' }, tokens(each.maxContextLength)),
      h('td', null, h('div', { class: 'buttons' }, button('Load …', () => openLoad(each, again), { class: 'small', 'aria-label': `Load ${each.modelKey}` }), each.type !== 'embedding' && button('Activate', () => openActivate(each.modelKey, null, {}, again), { class: 'small', 'aria-label': `Activate ${each.modelKey}` }))),
    );
  });
  return table('On the disk', ['Model', 'Type', { text: 'Size', number: true }, 'Kind', { text: 'Max context', number: true }, 'Actions'], rows, { isSilent: true }).element;
}

function openLoad(model, again) {
  openDialog(`Load ${model.modelKey}`, (close) => {
    const order = new FieldSet(model.type === 'embedding' ? ORDER_FIELDS.slice(0, 2) : ORDER_FIELDS);
    const config = new FieldSet(limited(LOAD_FIELDS, model.maxContextLength));
    const inference = new FieldSet(INFERENCE_FIELDS);
    const trouble = h('div', null);
    const submit = button('Load', () => undefined, { type: 'submit', class: 'primary' });
    const start = async (event) => {
      event.preventDefault();
      const [ordered, loadConfig, defaultInference] = [order.read(), config.read(), inference.read()];
      if (ordered === null || loadConfig === null || defaultInference === null) return;
      const body = { modelKey: model.modelKey, ...ordered, activate: ordered.activate ?? false };
      if (Object.keys(loadConfig).length > 0) body.loadConfig = loadConfig;
      if (Object.keys(defaultInference).length > 0) body.defaultInference = defaultInference;
      submit.disabled = true;
      replace(trouble, notice('loading', 'Loading …', 'This window may be closed: the load goes on, and is shown on the page.'));
      try {
        const answer = await post('/admin/models/load', body);
        announce(answer.message);
        void again();
        if (answer.workflow !== undefined || answer.notApplied !== undefined) showThere(trouble, loadedAnyway(answer));
        else close();
      } catch (error) {
        showThere(trouble, failure(error));
        if (error instanceof ApiError) {
          order.show(error.faults);
          config.show(error.faults, ['loadConfig']);
          inference.show(error.faults, ['defaultInference']);
        }
      }
      submit.disabled = false;
    };
    return h(
      'form',
      { on: { submit: (event) => void start(event) }, novalidate: true },
      order.element,
      h('details', null, h('summary', null, 'Load configuration'), h('p', { class: 'hint' }, 'What is left empty is as LM Studio, or the gateway\'s configuration, has it.'), config.element),
      model.type !== 'embedding' && h('details', null, h('summary', null, 'Default parameters while it is active'), inference.element),
      trouble,
      h('div', { class: 'buttons' }, submit, button('Close', close)),
    );
  });
}

/** Show something in a dialog that may be scrolled to somewhere else. */
function showThere(place, what) {
  replace(place, what);
  place.scrollIntoView({ block: 'nearest' });
}

function limited(fields, longest) {
  if (typeof longest !== 'number' || longest < 1) return fields;
  return fields.map((each) => (each.name === 'contextLength' ? { ...each, hint: `tokens; this model has at most ${count(longest)}` } : each));
}

function loadedAnyway(answer) {
  return notice(
    'note',
    answer.message,
    answer.notApplied ? `Not applied: ${answer.notApplied.join(', ')}.` : '',
    answer.workflow && h('ol', null, Object.values(answer.workflow).map((step) => h('li', null, step))),
  );
}

function openActivate(modelKey, instanceId, values, again) {
  openDialog(`Activate ${instanceId ?? modelKey}`, (close) => {
    const inference = new FieldSet(INFERENCE_FIELDS, values ?? {});
    const trouble = h('div', null);
    const submit = button('Activate', () => undefined, { type: 'submit', class: 'primary' });
    const start = (event) => {
      event.preventDefault();
      const defaultInference = inference.read();
      if (defaultInference === null) return;
      const body = { modelKey, ...(instanceId ? { instanceId } : {}), defaultInference };
      void busy(submit, trouble, async () => {
        try {
          announce((await post('/admin/models/activate', body)).message);
        } catch (error) {
          if (error instanceof ApiError) inference.show(error.faults, ['defaultInference']);
          throw error;
        }
        void again();
      }, close);
    };
    return h(
      'form',
      { on: { submit: start }, novalidate: true },
      h('p', null, 'Requests that name no model go to it. A parameter set here is given to requests that do not have it; what a client sends always wins.'),
      inference.element,
      trouble,
      h('div', { class: 'buttons' }, submit, button('Cancel', close)),
    );
  });
}

function askToUnload(instance, again) {
  openDialog(`Unload ${instance.identifier}?`, (close) => {
    const trouble = h('div', null);
    const buttons = h('div', { class: 'buttons' });
    const unload = async (force) => {
      for (const each of buttons.children) each.disabled = true;
      try {
        const answer = await post('/admin/models/unload', { modelKey: instance.modelKey, instanceId: instance.identifier, ...(force ? { force } : {}) });
        announce(answer.message);
        void again();
        close();
        return;
      } catch (error) {
        if (error instanceof ApiError && error.status === 409) conflict(error);
        else replace(trouble, failure(error));
      }
      for (const each of buttons.children) each.disabled = false;
    };
    const conflict = (error) => {
      const isBusy = error.code === 'instance_busy' || (Array.isArray(error.details) && error.details.some((each) => each.requestId));
      const requests = Array.isArray(error.details) ? error.details.filter((each) => each.requestId) : [];
      replace(
        trouble,
        notice(
          'note',
          isBusy ? 'It is answering requests' : 'Not now',
          isBusy ? 'LM Studio would break them off. Wait until they have ended, or unload it anyway: their clients get an error.' : error.message,
          requests.length > 0 && h('ul', null, requests.map((each) => h('li', null, `${each.key ?? 'no key'}: ${each.requestId}`))),
        ),
      );
      if (isBusy && buttons.children.length === 2) buttons.append(button('Unload anyway', () => void unload(true), { class: 'danger' }));
    };
    replace(buttons, button('Keep it', close, { autofocus: true }), button('Unload', () => void unload(false), { class: 'danger' }));
    return [h('p', null, 'It leaves the memory. Its next request has LM Studio load it again, if just-in-time loading is on.'), trouble, buttons];
  });
}

function showLoads(live, area, list, rows) {
  area.hidden = live.loads.size === 0;
  for (const [name, { element }] of rows) {
    if (live.loads.has(name)) continue;
    element.remove();
    rows.delete(name);
  }
  for (const [name, load] of live.loads) {
    let shown = rows.get(name);
    if (shown === undefined) {
      shown = loadRow(load);
      rows.set(name, shown);
      list.append(shown.element);
    }
    setProgress(shown.bar, load.progress);
    setText(shown.said, `${load.progress === null ? '' : `${load.progress} %, `}for ${duration(Math.floor((Date.now() - load.startedAt) / 1000) * 1000)}`);
  }
}

function loadRow(load) {
  const bar = progress(`Loading ${load.modelKey}`, load.progress);
  const said = h('span', { class: 'quiet' });
  const name = load.instanceId ?? load.modelKey;
  const cancel = button('Cancel the load', () => confirmThen(`Cancel the load of ${name}?`, 'Whoever waits for it is told that it was cancelled.', 'Cancel the load', async () => {
    const answer = await post('/admin/models/load/cancel', { modelKey: load.modelKey, ...(load.instanceId ? { instanceId: load.instanceId } : {}) });
    announce(answer.message);
  }), { class: 'small danger' });
  return { bar, said, element: h('div', null, h('div', { class: 'head' }, h('span', null, h('strong', null, name), ' ', said), cancel), bar) };
}
