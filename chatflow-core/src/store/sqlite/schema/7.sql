-- Blocks of ten days (level 4). None is rolled up yet, which is a time before all others.
UPDATE meta SET value = value || ' -1152921504606846976' WHERE name = 'rolled' AND value LIKE '% % %' AND value NOT LIKE '% % % %';
