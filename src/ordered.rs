//! Collects items into ordered maps and sets without sorting them first.

/// The map or set of these items. `collect()` sorts first, which adds five kilobytes of program for each type.
pub fn ordered<T, C: Default + Extend<T>>(items: impl IntoIterator<Item = T>) -> C {
    let mut all = C::default();
    all.extend(items);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn of_two_items_with_one_key_the_last_one_stays() {
        assert_eq!(ordered::<_, BTreeMap<_, _>>([(2, 'a'), (1, 'b'), (2, 'c')]), BTreeMap::from([(1, 'b'), (2, 'c')]));
    }
}
