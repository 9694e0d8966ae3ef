// The minute of the reliability proof that fits here; the whole of it is `make reliability`.
import { suites } from '../../reliability/suites.mjs'

export default () => suites([], 'short')
