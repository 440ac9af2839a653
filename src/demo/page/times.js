// The database's times in the reader's form. Rows have `YYYY-MM-DD HH:MM:SS` without a zone; the offset of that clock
// from this computer's follows from the time that the server sends along.

let offset = 0;

const asUtc = (text) => Date.parse(`${text.replace(' ', 'T')}Z`);

/** Sets the offset from the database's current time, rounded to a quarter of an hour, by which zones differ. */
export function setServerTime(text) {
  const quarter = 15 * 60 * 1000;
  const difference = Date.now() - asUtc(text);
  if (Number.isFinite(difference)) offset = Math.round(difference / quarter) * quarter;
}

/** A time of the database as a Date. */
export const dateOf = (text) => new Date(asUtc(text) + offset);

const clockFormat = new Intl.DateTimeFormat(undefined, { hour: 'numeric', minute: '2-digit' });
const fullFormat = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'medium' });
const dayFormat = new Intl.DateTimeFormat(undefined, { weekday: 'long', day: 'numeric', month: 'long' });
const yearFormat = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'long', year: 'numeric' });

export const clockTime = (date) => clockFormat.format(date);
export const fullTime = (date) => fullFormat.format(date);

/** A key that is the same for all times of one day. */
export const dayKey = (date) => `${date.getFullYear()}-${date.getMonth()}-${date.getDate()}`;

/** What a day is called: Today, Yesterday, Monday, 3 March … */
export function dayName(date) {
  const now = new Date();
  const midnight = (day) => new Date(day.getFullYear(), day.getMonth(), day.getDate());
  const days = Math.round((midnight(now) - midnight(date)) / 86400000);
  if (days === 0) return 'Today';
  if (days === 1) return 'Yesterday';
  return (days < 300 ? dayFormat : yearFormat).format(date);
}

/** An age in seconds, for people. */
export function ageText(seconds) {
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} days`;
}
