//! A small ordered map: a sorted vector.
//!
//! All maps of the filter are bounded by a few hundred entries, where a sorted vector is as fast as a tree, and each
//! kind of tree costs the module 6 kB of code: with trees it was larger than its budget.

/// Keys in order, each once.
#[derive(Debug, Clone)]
pub struct VecMap<K, V>(Vec<(K, V)>);

// === impl VecMap ===

impl<K, V> Default for VecMap<K, V> {
    fn default() -> Self {
        VecMap(Vec::new())
    }
}

impl<K: Ord + Copy, V> VecMap<K, V> {
    fn find(&self, key: &K) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| known.cmp(key))
    }

    /// The value of a key.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.find(key).ok().and_then(|at| self.0.get(at)).map(|(_, value)| value)
    }

    /// The value of a key, to change.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.find(key).ok().and_then(|at| self.0.get_mut(at)).map(|(_, value)| value)
    }

    /// Whether a key is there.
    pub fn contains(&self, key: &K) -> bool {
        self.find(key).is_ok()
    }

    /// Puts a value under a key; an old one goes.
    pub fn insert(&mut self, key: K, value: V) {
        match self.find(&key) {
            Ok(at) => {
                if let Some((_, old)) = self.0.get_mut(at) {
                    *old = value;
                }
            }
            Err(at) => self.0.insert(at, (key, value)),
        }
    }

    /// The value of a key, made if it is not there.
    pub fn or_default(&mut self, key: K) -> Option<&mut V>
    where
        V: Default,
    {
        let at = match self.find(&key) {
            Ok(at) => at,
            Err(at) => {
                self.0.insert(at, (key, V::default()));
                at
            }
        };
        self.0.get_mut(at).map(|(_, value)| value)
    }

    /// Takes a key out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.find(key).ok().map(|at| self.0.remove(at).1)
    }

    /// Keeps what the rule says.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        self.0.retain_mut(|(key, value)| keep(key, value));
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keys and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (K, &V)> {
        self.0.iter().map(|(key, value)| (*key, value))
    }

    /// Keys and values, in order, to change.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (K, &mut V)> {
        self.0.iter_mut().map(|(key, value)| (*key, value))
    }

    /// Values, in order of their keys.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.0.iter().map(|(_, value)| value)
    }

    /// Values, in order of their keys, to change.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.0.iter_mut().map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_kept_in_order_and_once() {
        let mut map = VecMap::default();
        for key in [5, 1, 3, 1] {
            map.insert(key, key * 10);
        }
        *map.or_default(2).unwrap() += 7;
        assert!(map.iter().map(|(key, value)| (key, *value)).eq([(1, 10), (2, 7), (3, 30), (5, 50)]));
        assert_eq!((map.remove(&3), map.remove(&3), map.get(&5), map.len()), (Some(30), None, Some(&50), 3));
        map.retain(|key, _| *key != 1);
        assert!(!map.contains(&1) && map.contains(&2) && !map.is_empty());
    }
}
